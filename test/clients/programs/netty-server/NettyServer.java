// Netty, two event loop threads.
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.DefaultHttpContent;
import io.netty.handler.codec.http.DefaultHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.TimeUnit;

public class NettyServer {
  static byte[] text(String s) {
    return s.getBytes(StandardCharsets.ISO_8859_1);
  }

  static class Handler extends SimpleChannelInboundHandler<FullHttpRequest> {
    void answer(ChannelHandlerContext ctx, FullHttpRequest request, HttpResponseStatus status, byte[] body) {
      boolean head = request.method().equals(HttpMethod.HEAD);
      var response = new DefaultFullHttpResponse(
          HttpVersion.HTTP_1_1, status, head ? Unpooled.EMPTY_BUFFER : Unpooled.wrappedBuffer(body));
      response.headers().set("content-type", "text/plain").setInt("content-length", body.length);
      ctx.writeAndFlush(response);
    }

    void pieces(ChannelHandlerContext ctx, int i) {
      if (i == 10) {
        ctx.writeAndFlush(LastHttpContent.EMPTY_LAST_CONTENT);
        return;
      }
      byte[] piece = text(String.valueOf((char) ('a' + i)).repeat(2000));
      ctx.writeAndFlush(new DefaultHttpContent(Unpooled.wrappedBuffer(piece)));
      ctx.executor().schedule(() -> pieces(ctx, i + 1), 1, TimeUnit.MILLISECONDS);
    }

    @Override
    protected void channelRead0(ChannelHandlerContext ctx, FullHttpRequest request) throws Exception {
      switch (request.uri()) {
        case "/small" -> answer(ctx, request, HttpResponseStatus.OK, text("small body of netty\n"));
        case "/large" -> answer(ctx, request, HttpResponseStatus.OK, text("0123456789".repeat(30_000)));
        case "/chunked" -> {
          HttpResponse response = new DefaultHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.OK);
          response.headers().set("content-type", "text/plain");
          HttpUtil.setTransferEncodingChunked(response, true);
          ctx.write(response);
          pieces(ctx, 0);
        }
        case "/echo" -> {
          byte[] body = new byte[request.content().readableBytes()];
          request.content().readBytes(body);
          String hash = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-1").digest(body));
          answer(ctx, request, HttpResponseStatus.OK, text(body.length + " " + hash + "\n"));
        }
        default -> answer(ctx, request, HttpResponseStatus.NOT_FOUND, text("nothing here\n"));
      }
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
      ctx.close();
    }
  }

  public static void main(String[] args) throws Exception {
    EventLoopGroup group = new MultiThreadIoEventLoopGroup(2, NioIoHandler.newFactory());
    new ServerBootstrap()
        .group(group)
        .channel(NioServerSocketChannel.class)
        .childOption(ChannelOption.TCP_NODELAY, true)
        .childHandler(new ChannelInitializer<SocketChannel>() {
          @Override
          protected void initChannel(SocketChannel channel) {
            channel.pipeline().addLast(new HttpServerCodec(), new HttpObjectAggregator(1 << 20), new Handler());
          }
        })
        .bind(args[0], Integer.parseInt(args[1]))
        .sync();
    System.out.println("listening");
  }
}
