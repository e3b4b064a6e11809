// One session with basic-ftp. Argument: the TLS version, as Node.js names it.
const assert = require("assert");
const fs = require("fs");
const path = require("path");
const { Client } = require("basic-ftp");

async function main() {
    const env = process.env;
    const client = new Client(60_000);
    const local = name => path.join(env.FTPS_SCRATCH, name);
    await client.access({
        host: env.FTPS_HOST,
        port: Number(env.FTPS_PORT),
        user: env.FTPS_USER,
        password: env.FTPS_PASSWORD,
        secure: env.FTPS_PORT_KIND === "implicit" ? "implicit" : true,
        secureOptions: {
            ca: fs.readFileSync(env.FTPS_CERTIFICATE),
            minVersion: process.argv[2],
            maxVersion: process.argv[2],
        },
    });
    const features = await client.features();
    assert(features.has("MLST") && features.has("SIZE"), [...features.keys()].join());
    await client.downloadTo(local("down.bin"), "down.bin");
    assert.strictEqual(await client.size("down.bin"), fs.statSync(local("down.bin")).size);
    await client.uploadFrom(local("down.bin"), "up.bin");
    const whole = fs.readFileSync(local("down.bin"));
    fs.writeFileSync(local("tail.bin"), whole.subarray(0, 1_000_000));
    await client.downloadTo(local("tail.bin"), "down.bin", 1_000_000);
    assert(whole.equals(fs.readFileSync(local("tail.bin"))));

    // No empty file: this client ends such an upload before its handshake is done, and then sends no close_notify.
    fs.mkdirSync(local("tree/sub dir"), { recursive: true });
    for (let file = 0; file < 20; file++) {
        fs.writeFileSync(local(`tree/sub dir/file ${file}`), "x".repeat((file + 1) * 1000));
    }
    await client.uploadFromDir(local("tree"), "tree");
    await client.downloadToDir(local("back"), "tree");
    for (let file = 0; file < 20; file++) {
        assert.strictEqual(fs.statSync(local(`back/sub dir/file ${file}`)).size, (file + 1) * 1000);
    }
    const names = (await client.list("tree/sub dir")).map(entry => entry.name);
    assert.strictEqual(names.length, 20, names.join());
    await client.rename("tree/sub dir/file 3", "tree/renamed");
    assert((await client.lastMod("tree/renamed")) instanceof Date);
    await client.appendFrom(local("tree/sub dir/file 2"), "tree/renamed");
    assert.strictEqual(await client.size("tree/renamed"), 7000);
    await client.removeDir("tree");
    assert.strictEqual((await client.send("NOOP")).code, 200);
    assert.strictEqual(await client.pwd(), "/");
    client.close();
    console.log("done");
}

main().catch(error => {
    console.error(error);
    process.exit(1);
});
