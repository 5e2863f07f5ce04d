//! A tunnel through an HTTP proxy (CONNECT, RFC 9110, section 9.3.6).

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Method, Request as HttpRequest, Uri};
use hyper::client::conn::http1;
use url::Url;

use super::error::{Error, Result};
use super::io::{Traffic, WatchedStream};
use super::proxy::{Proxy, destination};
use super::request::{Body, SentBody};
use crate::transport::ByteStream;

/// Asks the proxy, to which `stream` is connected, for a tunnel to the URL's host. From then on the stream is one to
/// that host.
pub(super) async fn connect(stream: Rc<dyn ByteStream>, proxy: &Proxy, url: &Url) -> Result<()> {
    let failed = |error: hyper::Error| proxy.error(format_args!("did not make a tunnel: {error}"));
    let traffic = Rc::new(Traffic::default());
    let watched = WatchedStream { stream, traffic: Rc::clone(&traffic) };
    let (mut sender, connection) = http1::handshake(watched).await.map_err(failed)?;
    let mut connection = Some(connection);
    let request = head(proxy, url)?.map(|()| SentBody::new(Body::Empty, &traffic));
    let mut response = pin!(sender.send_request(request));
    let answer = std::future::poll_fn(|context| {
        if let Some(driver) = &mut connection {
            // Its end is told by the response.
            let _ended = driver.poll_without_shutdown(context);
        }
        response.as_mut().poll(context)
    })
    .await
    .map_err(failed)?;
    if !answer.status().is_success() {
        return Err(proxy.error(format_args!("refused a tunnel: {}", answer.status())));
    }
    drop(answer);
    let leftover = std::future::poll_fn(|context| {
        let Some(mut driver) = connection.take() else { return Poll::Ready(Ok(None)) };
        // hyper is done with a 200; after a 204, which makes a tunnel too, it would wait for another request.
        if let Poll::Ready(ended) = driver.poll_without_shutdown(context) {
            ended.map_err(failed)?;
        }
        Poll::Ready(Ok::<_, Error>(Some(driver.into_parts().read_buf)))
    })
    .await?;
    match leftover {
        // Neither HTTP nor TLS lets the server speak first.
        Some(bytes) if !bytes.is_empty() => Err(proxy.error("sent something through the tunnel before it was asked")),
        _ => Ok(()),
    }
}

fn head(proxy: &Proxy, url: &Url) -> Result<HttpRequest<()>> {
    let (host, port) = destination(url);
    let target = format!("{}:{port}", host.map(|host| host.to_string()).unwrap_or_default());
    let invalid = |error: http::Error| proxy.error(format_args!("cannot be asked for {target}: {error}"));
    let uri = Uri::builder().authority(target.as_str()).build().map_err(invalid)?;
    let mut request = HttpRequest::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .header(http::header::HOST, &target)
        .body(())
        .map_err(invalid)?;
    for (name, value) in proxy.headers() {
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}
