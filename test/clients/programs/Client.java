// Java's own HttpClient, HTTP/1.1.
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.HexFormat;

public class Client {
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    static byte[] letters(int n) {
        byte[] all = new byte[n];
        for (int i = 0; i < n; i++) all[i] = (byte) ('a' + i % 26);
        return all;
    }

    static void ask(String name, String url, String op, String method, String path, BodyPublisher body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + path))
            .timeout(Duration.ofSeconds(15)).method(method, body).build();
        HttpResponse<byte[]> answer = CLIENT.send(request, HttpResponse.BodyHandlers.ofByteArray());
        String sha1 = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-1").digest(answer.body()));
        String type = answer.headers().firstValue("content-type").orElse("-");
        System.out.println(String.join(" ", name, op, "" + answer.statusCode(), "" + answer.body().length, sha1, type));
    }

    public static void main(String[] args) throws Exception {
        for (String arg : args) {
            String name = arg.split("=")[0], url = arg.split("=")[1];
            for (int i = 1; i <= 3; i++) ask(name, url, "small-" + i, "GET", "/small", BodyPublishers.noBody());
            ask(name, url, "head", "HEAD", "/small", BodyPublishers.noBody());
            ask(name, url, "missing", "GET", "/missing", BodyPublishers.noBody());
            ask(name, url, "post-small", "POST", "/echo", BodyPublishers.ofByteArray(letters(100)));
            ask(name, url, "post-large", "POST", "/echo", BodyPublishers.ofByteArray(letters(200_000)));
            ask(name, url, "post-chunked", "POST", "/echo",
                BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(letters(50_000))));
            ask(name, url, "chunked", "GET", "/chunked", BodyPublishers.noBody());
            ask(name, url, "large", "GET", "/large", BodyPublishers.noBody());
            ask(name, url, "small-4", "GET", "/small", BodyPublishers.noBody());
        }
    }
}
