// The JDK's HttpServer, a thread for each exchange.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.Executors;

public class Server {
  static void answer(HttpExchange x, int status, byte[] body) throws IOException {
    x.getResponseHeaders().set("Content-Type", "text/plain");
    boolean head = x.getRequestMethod().equals("HEAD");
    if (head) x.getResponseHeaders().set("Content-Length", String.valueOf(body.length));
    x.sendResponseHeaders(status, head ? -1 : body.length);
    if (!head) x.getResponseBody().write(body);
    x.close();
  }

  static byte[] text(String s) {
    return s.getBytes(StandardCharsets.ISO_8859_1);
  }

  public static void main(String[] args) throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress(args[0], Integer.parseInt(args[1])), 128);
    server.setExecutor(Executors.newCachedThreadPool());
    server.createContext("/small", x -> answer(x, 200, text("small body of java\n")));
    server.createContext("/large", x -> answer(x, 200, text("0123456789".repeat(30_000))));
    server.createContext("/chunked", x -> {
      x.getResponseHeaders().set("Content-Type", "text/plain");
      x.sendResponseHeaders(200, 0);
      try (OutputStream out = x.getResponseBody()) {
        for (int i = 0; i < 10; i++) {
          out.write(text(String.valueOf((char) ('a' + i)).repeat(2000)));
          out.flush();
        }
      }
    });
    server.createContext("/echo", x -> {
      byte[] body = x.getRequestBody().readAllBytes();
      try {
        byte[] hash = MessageDigest.getInstance("SHA-1").digest(body);
        answer(x, 200, text(body.length + " " + HexFormat.of().formatHex(hash) + "\n"));
      } catch (java.security.NoSuchAlgorithmException e) {
        throw new IOException(e);
      }
    });
    server.createContext("/", x -> answer(x, 404, text("nothing here\n")));
    server.start();
    System.out.println("listening");
  }
}
