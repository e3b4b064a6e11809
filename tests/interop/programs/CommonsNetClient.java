import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.commons.net.ftp.FTP;
import org.apache.commons.net.ftp.FTPFile;
import org.apache.commons.net.ftp.FTPReply;
import org.apache.commons.net.ftp.FTPSClient;

/** One session with Apache Commons Net. Argument: the TLS version, as the runtime names it. */
public class CommonsNetClient {
    static void check(boolean condition, FTPSClient client, String what) {
        if (!condition) {
            throw new AssertionError(what + ": " + client.getReplyString());
        }
    }

    static SSLContext trusting(String file) throws Exception {
        KeyStore anchors = KeyStore.getInstance(KeyStore.getDefaultType());
        anchors.load(null, null);
        try (FileInputStream pem = new FileInputStream(file)) {
            anchors.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(anchors);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    static byte[] retrieve(FTPSClient client, String name) throws Exception {
        ByteArrayOutputStream octets = new ByteArrayOutputStream();
        check(client.retrieveFile(name, octets), client, "RETR " + name);
        return octets.toByteArray();
    }

    static void store(FTPSClient client, String name, byte[] octets) throws Exception {
        check(client.storeFile(name, new ByteArrayInputStream(octets)), client, "STOR " + name);
    }

    public static void main(String[] arguments) throws Exception {
        boolean implicit = System.getenv("FTPS_PORT_KIND").equals("implicit");
        FTPSClient client = new FTPSClient(implicit, trusting(System.getenv("FTPS_CERTIFICATE")));
        client.setEnabledProtocols(new String[] {arguments[0]});
        client.setEndpointCheckingEnabled(true);
        client.setDefaultTimeout(60_000);
        client.setDataTimeout(60_000);
        client.connect(System.getenv("FTPS_HOST"), Integer.parseInt(System.getenv("FTPS_PORT")));
        check(FTPReply.isPositiveCompletion(client.getReplyCode()), client, "greeting");
        check(client.login(System.getenv("FTPS_USER"), System.getenv("FTPS_PASSWORD")), client, "login");
        client.execPBSZ(0);
        client.execPROT("P");
        check(client.setFileType(FTP.BINARY_FILE_TYPE), client, "TYPE I");
        System.out.println(client.getSystemType());

        for (boolean passive : new boolean[] {true, false}) {
            if (passive) {
                client.enterLocalPassiveMode();
            } else {
                client.enterLocalActiveMode();
            }
            byte[] whole = retrieve(client, "down.bin");
            check(whole.length == 2_000_001, client, "length " + whole.length);
            store(client, "up.bin", whole);
            client.setRestartOffset(1_000_000);
            check(Arrays.equals(retrieve(client, "down.bin"), Arrays.copyOfRange(whole, 1_000_000, whole.length)),
                client, "REST");
            client.setRestartOffset(0);
            check(client.appendFile("appended", new ByteArrayInputStream(new byte[10])), client, "APPE");
            check(client.appendFile("appended", new ByteArrayInputStream(new byte[5])), client, "APPE");
            check(retrieve(client, "appended").length == 15, client, "appended length");
            check(client.makeDirectory("d"), client, "MKD");
            // More uploads than a client has session tickets.
            for (int file = 0; file < 12; file++) {
                store(client, "d/file " + file, new byte[file]);
            }
            FTPFile[] listed = client.listFiles("d");
            check(listed.length == 12, client, "LIST " + listed.length);
            FTPFile[] described = client.mlistDir("d");
            check(described.length >= 12, client, "MLSD " + described.length);
            check(client.listNames("d").length == 12, client, "NLST");
            FTPFile facts = client.mlistFile("d/file 7");
            check(facts != null && facts.getSize() == 7 && facts.isFile(), client, "MLST");
            check(client.rename("d/file 7", "d/renamed"), client, "RNFR");
            check(client.getModificationTime("d/renamed") != null, client, "MDTM");
            check(client.setModificationTime("d/renamed", "20200102030405"), client, "MFMT");
            for (FTPFile file : client.listFiles("d")) {
                check(client.deleteFile("d/" + file.getName()), client, "DELE");
            }
            check(client.removeDirectory("d"), client, "RMD");
            check(client.deleteFile("appended"), client, "DELE");
            check(client.sendNoOp(), client, "NOOP");
        }
        check(client.logout(), client, "QUIT");
        client.disconnect();
        System.out.println("done");
    }
}
