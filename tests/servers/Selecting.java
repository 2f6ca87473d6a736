import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;

/** Selects its socket, once already before it is bound: the JVM then has it in its epoll set. */
final class Selecting {
    public static void main(String[] arguments) throws IOException {
        ServerSocketChannel server = ServerSocketChannel.open();
        Selector selector = Selector.open();
        server.setOption(StandardSocketOptions.SO_REUSEADDR, true);
        server.configureBlocking(false);
        server.register(selector, SelectionKey.OP_ACCEPT);
        selector.selectNow();
        server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        while (true) {
            selector.select();
            selector.selectedKeys().clear();
            while (answersOne(server)) {}
        }
    }

    private static boolean answersOne(ServerSocketChannel server) {
        try (SocketChannel client = server.accept()) {
            if (client == null) {
                return false;
            }
            answer(client);
        } catch (IOException gone) {
            // It is the client's loss.
        }
        return true;
    }

    /** Reads up to the empty line, and says who this is. */
    private static void answer(SocketChannel client) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate(8192);
        String request = "";
        while (!request.contains("\r\n\r\n")) {
            if (client.read(buffer) <= 0) {
                return;
            }
            request = new String(buffer.array(), 0, buffer.position(), StandardCharsets.US_ASCII);
        }
        String slot = System.getenv("CLINIT_SLOT");
        String body = "pid=" + ProcessHandle.current().pid() + " slot=" + (slot == null ? "-" : slot);
        String answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body + "\n";
        client.write(ByteBuffer.wrap(answer.getBytes(StandardCharsets.US_ASCII)));
    }
}
