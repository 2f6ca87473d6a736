import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** The JDK's own HTTP server: java Server PORT. */
public final class Server {
    public static void main(String[] arguments) throws IOException {
        String slot = System.getenv().getOrDefault("CLINIT_SLOT", "-");
        String text = "pid=" + ProcessHandle.current().pid() + " slot=" + slot + "\n";
        byte[] body = text.getBytes(StandardCharsets.US_ASCII);
        int port = Integer.parseInt(arguments[0]);
        var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), port);
        HttpServer server = HttpServer.create(address, 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
    }
}
