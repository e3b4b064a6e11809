//! Data connections through proxies, and what PASV names to whom.

use super::*;

both_ports! {
    proxy_data_connections_are_told_apart, proxy_data_headers_are_demanded, proxy_data_waits_can_be_ended,
    proxy_clients_of_ipv6, proxy_active_mode, passive_addresses_by_network,
}

fn proxy_data_connections_are_told_apart(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(TRUSTING);
    let mut client = login(t, &server, &header());
    let told = client.pasv();
    let stranger = Ipv4Addr::new(127, 0, 0, 78);
    // Each of these is nobody's, or somebody else's, and does not end the wait of the right client.
    let wrong = [
        data_from(&server, PROXY, told, &binary_of(stranger, FRONT)),
        data_from(&server, PROXY, told, &text(stranger, FRONT)),
        data_from(&server, PROXY, told, &local()),
        data_from(&server, stranger.into(), told, b""),
        // What a header from elsewhere says does not matter.
        data_from(&server, stranger.into(), told, &header()),
        data_from(&server, PROXY, told, b"\x16\x03\x01\x00\x05hello"),
    ];
    for mut link in wrong {
        let (octets, end) = link.take_all_raw();
        assert!(octets.is_empty() && end != End::Timeout, "{end:?}");
    }
    assert_eq!(
        download_through(&mut client, &server, told, &header()),
        b"content"
    );

    // The client itself, past the proxy.
    let told = client.epsv();
    let mut data = data_from(&server, CLIENT.into(), told, b"");
    client.ok("RETR f", 150);
    client.secure_data(&mut data);
    assert_eq!(client.drain(data), b"content");

    // Control past the proxy, data through it: the header says whose it is.
    let mut direct = Client::connect_as(&server, t.port, Profile::usual(), Some(CLIENT.into()));
    direct.secure();
    t.settle(&mut direct, USER);
    let told = direct.pasv();
    assert_eq!(
        download_through(&mut direct, &server, told, &header()),
        b"content"
    );
}

fn proxy_data_headers_are_demanded(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(IMPATIENT);
    let mut client = login(t, &server, &header());
    let told = client.pasv();
    let mut mute = data_from(&server, PROXY, told, b"");
    let (_, end) = mute.take_all_raw();
    assert_ne!(end, End::Timeout);
    assert!(
        server.wait_for_log("connection=\"data\""),
        "{}",
        log(&server)
    );
    assert_eq!(
        download_through(&mut client, &server, told, &header()),
        b"content"
    );
}

fn proxy_data_waits_can_be_ended(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(&[TRUSTING, &["--connect-timeout", "1s"]].concat());
    let mut client = login(t, &server, &header());
    // A mute connection of the proxy holds the port: the transfer gives up all the same.
    let told = client.pasv();
    let mute = data_from(&server, PROXY, told, b"PROXY");
    client.ok("RETR f", 150);
    client.expect(425);
    drop(mute);
    // Another set-up replaces one that waits.
    let told = client.pasv();
    let mut mute = data_from(&server, PROXY, told, b"PROXY");
    std::thread::sleep(Duration::from_millis(50));
    let told = client.pasv();
    assert_ne!(mute.take_all_raw().1, End::Timeout);
    assert_eq!(
        download_through(&mut client, &server, told, &header()),
        b"content"
    );
    // ABOR ends a transfer that waits.
    let told = client.pasv();
    let mut mute = data_from(&server, PROXY, told, b"PROXY");
    client.ok("RETR f", 150);
    client.send("ABOR");
    client.expect(426);
    client.expect(226);
    assert_ne!(mute.take_all_raw().1, End::Timeout);
    client.ok("NOOP", 200);
}

fn proxy_clients_of_ipv6(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(TRUSTING);
    let six = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    let header = text(six(7), six(1));
    let mut client = login(t, &server, &header);
    client.ok("PASV", 425);
    client.ok("EPSV 2", 229);
    client.ok("EPSV 1", 522);
    client.ok("EPRT |2|2001:db8::8|50000|", 504);
    let told = client.epsv();
    let other = text(six(8), six(1));
    assert_ne!(
        data_from(&server, PROXY, told, &other).take_all_raw().1,
        End::Timeout
    );
    assert_eq!(
        download_through(&mut client, &server, told, &header),
        b"content"
    );
    // An IPv4 client in IPv6 words is one of IPv4.
    let mapped = |address: Ipv4Addr| IpAddr::V6(address.to_ipv6_mapped());
    let mut client = login(t, &server, &text(mapped(CLIENT), mapped(FRONT)));
    let told = client.pasv();
    assert_eq!(told.ip(), IpAddr::V4(FRONT));
    assert_eq!(
        download_through(&mut client, &server, told, &text(CLIENT, FRONT)),
        b"content"
    );
}

fn proxy_active_mode(t: &Test) {
    t.put("f", b"content");
    let server = t.server_with(TRUSTING);
    let mut client = login(t, &server, &header());
    // Neither the proxy nor the balancer's address: only the client's own.
    for host in ["127,0,0,10", "127,0,0,1", "198,51,100,1"] {
        client.ok(format!("PORT {host},200,1"), 504);
    }
    let listener = std::net::TcpListener::bind((CLIENT, 0)).unwrap();
    let address = host_port(listener.local_addr().unwrap());
    client.ok(format!("PORT {address}"), 200);
    client.ok("RETR f", 150);
    let mut data = accept(&listener);
    client.secure_data(&mut data);
    assert_eq!(client.drain(data), b"content");
}

fn passive_addresses_by_network(t: &Test) {
    let options = [
        TRUSTING,
        &["--passive-address", "localhost"],
        &["--passive-address-for", "10.0.0.0/8=192.0.2.10"],
        &["--passive-address-for", "10.1.0.0/16=own"],
        &["--passive-address-for", "10.1.2.0/24=192.0.2.12"],
    ]
    .concat();
    let server: Arc<Server> = t.server_with(&options);
    for (client, told) in [
        ("203.0.113.1", "127.0.0.1"),
        ("10.9.9.9", "192.0.2.10"),
        ("10.1.9.9", "198.51.100.1"),
        ("10.1.2.9", "192.0.2.12"),
    ] {
        let client: Ipv4Addr = client.parse().unwrap();
        let mut client = login(t, &server, &text(client, FRONT));
        assert_eq!(client.pasv().ip().to_string(), told);
    }
    // Looked up again, and the server goes on.
    server.signal(Signal::HUP);
    assert!(server.wait_for_log("accounts reloaded"));
    let mut direct = t.login(&server);
    assert_eq!(direct.pasv().ip().to_string(), "127.0.0.1");
}

#[test]
fn proxy_clear_uploads_hold_no_header() {
    fn check(t: &Test) {
        let server = t.server_with(&[OPTIONAL, TRUSTING].concat());
        let mut client = from_proxy(t, &server, &header());
        client.expect(220);
        client.login(USER, PASSWORD);
        client.ok("TYPE I", 200);
        client.ok(format!("CWD {}", t.directory), 250);
        let told = client.pasv();
        let octets = [&header()[..], b"the file"].concat();
        let mut data = data_from(&server, PROXY, told, &octets);
        client.ok("STOR g", 150);
        data.finish_sending();
        client.expect(226);
        assert_eq!(t.get("g"), b"the file");
    }
    crate::fixture::run("proxy_clear_uploads_hold_no_header", Port::Explicit, check);
}
