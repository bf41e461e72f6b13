//! hyper over tokio, one thread.
use futures_util::stream;
use http_body_util::{combinators::UnsyncBoxBody, BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{server::conn::http1, service::service_fn, Request, Response};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, env, time::Duration};
use tokio::{net::TcpListener, time::sleep};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn plain(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "text/plain")
        .body(Full::new(body.into()).boxed_unsync())
        .unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    Ok(match path.as_str() {
        "/small" => plain(200, "small body of hyper\n"),
        "/large" => plain(200, "0123456789".repeat(30_000)),
        "/chunked" => {
            let pieces = stream::unfold(0u8, |i| async move {
                if i == 10 {
                    return None;
                }
                sleep(Duration::from_millis(1)).await;
                Some((Ok(Frame::data(Bytes::from(vec![b'a' + i; 2000]))), i + 1))
            });
            let mut response = plain(200, "");
            *response.body_mut() = StreamBody::new(pieces).boxed_unsync();
            response
        }
        "/echo" => plain(200, format!("{} {}\n", body.len(), sha1_smol::Sha1::from(&body).digest())),
        _ => plain(404, "nothing here\n"),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let address = format!("{}:{}", args.next().unwrap(), args.next().unwrap());
    let listener = TcpListener::bind(address).await?;
    println!("listening");
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service_fn(answer))
                .await;
        });
    }
}
