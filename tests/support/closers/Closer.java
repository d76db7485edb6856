import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.security.cert.X509Certificate;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult.HandshakeStatus;
import javax.net.ssl.SSLEngineResult.Status;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

/** Holds TLS sessions with JSSE: reads lines "PORT VERSION WAY ACT SIZE LINE", writes "LINE RESULT" for each. */
public class Closer {
    static final SSLContext TRUSTING = trusting();

    interface Client {
        void send(String words) throws IOException;

        /** Returns how many bytes were read, 0 at the end. */
        int read(int most) throws IOException;

        /** Ends the client's own direction. */
        void end() throws IOException;

        void close() throws IOException;
    }

    public static void main(String[] args) throws IOException {
        BufferedReader jobs = new BufferedReader(new InputStreamReader(System.in));
        for (String job = jobs.readLine(); job != null; job = jobs.readLine()) {
            String[] words = job.split(" ");
            String result;
            try {
                result = String.valueOf(hold(words[0], words[1], words[2], words[3], words[4], words[5]));
            } catch (IOException | RuntimeException | AssertionError error) {
                result = error.toString();
            }
            System.out.println(words[5] + " " + result);
        }
    }

    static int hold(String port, String version, String way, String act, String size, String line)
            throws IOException {
        String[] versions = {"TLSv" + version};
        int number = Integer.parseInt(port), wanted = Integer.parseInt(size);
        Client client = way.equals("SSLEngine") ? new Engine(number, versions) : new Plain(number, versions, way);
        int got = 0;
        client.send(act + " " + size + "\n");
        if (act.equals("answer")) {
            for (int count = 1; count > 0 && got < wanted; got += count) count = client.read(wanted - got);
        }
        client.send(line + "\n");
        if (act.equals("half")) client.end();
        if (act.equals("half") || act.equals("end")) got = readAll(client);
        client.close();
        return got;
    }

    /** An end without close_notify, which is what -s gives, is an exception in Java. */
    static int readAll(Client client) {
        int got = 0;
        try {
            for (int count = client.read(65536); count > 0; count = client.read(65536)) got += count;
        } catch (IOException torn) {
            return got;
        }
        return got;
    }

    static class Plain implements Client {
        final Socket tcp;
        final SSLSocket tls;
        final String way;

        Plain(int port, String[] versions, String way) throws IOException {
            this.way = way;
            tcp = new Socket("127.0.0.1", port);
            tcp.setSoTimeout(10000);
            tcp.setTcpNoDelay(true);
            tls = (SSLSocket) TRUSTING.getSocketFactory().createSocket(tcp, "localhost", port, true);
            tls.setEnabledProtocols(versions);
            tls.startHandshake();
        }

        public void send(String words) throws IOException {
            tls.getOutputStream().write(words.getBytes());
        }

        public int read(int most) throws IOException {
            return Math.max(0, tls.getInputStream().read(new byte[most]));
        }

        public void end() throws IOException {
            if (way.equals("bare")) tcp.shutdownOutput();
            else tls.shutdownOutput();
        }

        public void close() throws IOException {
            switch (way) {
                case "close":
                    break;
                case "shutdownOutput":
                    tls.shutdownOutput();
                    readAll(this);
                    break;
                case "shutdownInput":
                    tls.shutdownOutput();
                    try {
                        tls.shutdownInput();
                    } catch (IOException early) {
                        break; // the server's close_notify has not come yet
                    }
                    break;
                case "linger":
                    tls.setSoLinger(true, 0);
                    break;
                case "bare":
                    tcp.close();
                    return;
                default:
                    throw new AssertionError(way);
            }
            tls.close();
        }
    }

    /** What HTTP clients and servers of Java build on. */
    static class Engine implements Client {
        final SocketChannel tcp;
        final SSLEngine tls;
        final ByteBuffer received = ByteBuffer.allocate(65536);
        final ByteBuffer decrypted = ByteBuffer.allocate(65536);
        final ByteBuffer encrypted = ByteBuffer.allocate(65536);

        Engine(int port, String[] versions) throws IOException {
            tcp = SocketChannel.open(new InetSocketAddress("127.0.0.1", port));
            tcp.setOption(StandardSocketOptions.TCP_NODELAY, true);
            tls = TRUSTING.createSSLEngine("localhost", port);
            tls.setEnabledProtocols(versions);
            tls.setUseClientMode(true);
            tls.beginHandshake();
            received.flip();
            while (tls.getHandshakeStatus() != HandshakeStatus.NOT_HANDSHAKING) {
                switch (tls.getHandshakeStatus()) {
                    case NEED_TASK:
                        for (Runnable task = tls.getDelegatedTask(); task != null; task = tls.getDelegatedTask()) task.run();
                        break;
                    case NEED_WRAP:
                        wrap(ByteBuffer.allocate(0));
                        break;
                    default:
                        if (!unwrap()) throw new IOException("the end within the handshake");
                }
            }
        }

        void wrap(ByteBuffer words) throws IOException {
            tls.wrap(words, encrypted);
            encrypted.flip();
            while (encrypted.hasRemaining()) tcp.write(encrypted);
            encrypted.clear();
        }

        /** Takes one record, from the network if need be; false at the end. */
        boolean unwrap() throws IOException {
            while (tls.unwrap(received, decrypted).getStatus() == Status.BUFFER_UNDERFLOW) {
                received.compact();
                int count = tcp.read(received);
                received.flip();
                if (count < 0) return false;
            }
            return !tls.isInboundDone();
        }

        public void send(String words) throws IOException {
            wrap(ByteBuffer.wrap(words.getBytes()));
        }

        public int read(int most) throws IOException {
            boolean going = true;
            while (going && decrypted.position() == 0) going = unwrap();
            int count = decrypted.position();
            decrypted.clear();
            return count;
        }

        public void end() throws IOException {
            tls.closeOutbound();
            while (!tls.isOutboundDone()) wrap(ByteBuffer.allocate(0));
        }

        public void close() throws IOException {
            end();
            tcp.close();
        }
    }

    static SSLContext trusting() {
        X509TrustManager everybody = new X509TrustManager() {
            public void checkClientTrusted(X509Certificate[] chain, String kind) {}

            public void checkServerTrusted(X509Certificate[] chain, String kind) {}

            public X509Certificate[] getAcceptedIssuers() {
                return new X509Certificate[0];
            }
        };
        try {
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, new TrustManager[] {everybody}, null);
            return context;
        } catch (java.security.GeneralSecurityException error) {
            throw new AssertionError(error);
        }
    }
}
