//! The server as a whole: binds, puts the routes together, and ends without cutting anyone off.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware, routing::get};
use tokio::{
    net::{TcpListener, lookup_host},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tower_http::compression::{
    CompressionLayer,
    predicate::{NotForContentType, Predicate, SizeAbove},
};

use crate::{
    answer::wrong_method,
    application::Application,
    docs,
    error::Error,
    guard::{self, Ends, Guard},
    media,
    options::{Options, SocketTiming},
    pair,
    query::encode,
    rest, socket, ui, uploads,
};

/// How long requests that are under way may take to end once the server was told to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every route knows.
pub(crate) struct Server {
    pub app: Arc<dyn Application>,
    pub guard: Arc<Guard>,
    pub sockets: SocketTiming,
    pub stop: CancellationToken,
}

pub(crate) type Shared = Arc<Server>;

/// A server that answers. It ends when this is told to [stop](Running::stop) or dropped.
pub struct Running {
    address: SocketAddr,
    token: Option<String>,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

/// Starts to serve an application.
///
/// # Errors
/// When the host has no address, the port cannot be had, or an address other than loopback comes
/// without a token.
pub async fn serve(app: impl Application, options: Options) -> Result<Running, Error> {
    let address = resolve(&options).await?;
    let token = options.token.clone().filter(|token| !token.is_empty());
    if token.is_none() && !address.ip().is_loopback() {
        return Err(Error::TokenRequired { address });
    }
    let bind = |source| Error::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let mut allowed = options.allowed_hosts.clone();
    // "All addresses" is none that a client could mean.
    if !address.ip().is_unspecified() {
        allowed.push(options.host.clone());
    }
    let guard = Guard::new(
        token.clone(),
        address.port(),
        &allowed,
        &options.trusted_origins,
    );
    let stop = CancellationToken::new();
    let server = Arc::new(Server {
        app: Arc::new(app),
        guard: Arc::new(guard),
        sockets: options.sockets,
        stop: stop.clone(),
    });
    let service = routes(server).into_make_service_with_connect_info::<Ends>();
    let stopping = stop.clone();
    let task = tokio::spawn(async move {
        let ended = axum::serve(listener, service)
            .with_graceful_shutdown(stopping.clone().cancelled_owned());
        let patience = async {
            stopping.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            ended = async { ended.await } => ended,
            () = patience => Ok(()),
        }
    });
    tracing::info!(%address, has_token = token.is_some(), "serving");
    Ok(Running {
        address,
        token,
        stop,
        task,
    })
}

async fn resolve(options: &Options) -> Result<SocketAddr, Error> {
    let found = lookup_host((options.host.as_str(), options.port)).await;
    let addresses: Vec<SocketAddr> = found
        .map_err(|source| Error::Resolve {
            host: options.host.clone(),
            source,
        })?
        .collect();
    // `localhost` is IPv4 first: what does not speak IPv6 finds it too.
    let chosen = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first());
    chosen.copied().ok_or_else(|| Error::Resolve {
        host: options.host.clone(),
        source: io::ErrorKind::NotFound.into(),
    })
}

fn routes(server: Shared) -> Router {
    let guard = server.guard.clone();
    // Pictures are compressed already, and ranges of a compressed file mean nothing.
    let worth_it = SizeAbove::new(1024)
        .and(NotForContentType::IMAGES)
        .and(NotForContentType::const_new("font/"));
    let texts = Router::new()
        .merge(rest::routes())
        .merge(uploads::routes())
        .merge(docs::routes())
        .fallback(ui::serve)
        .layer(CompressionLayer::new().gzip(true).compress_when(worth_it));
    texts
        .merge(media::routes())
        .merge(socket::routes())
        .route("/pair", get(pair::pair).fallback(wrong_method))
        .route("/healthz", get(|| async { "ok" }).fallback(wrong_method))
        .layer(middleware::from_fn_with_state(guard, guard::watch))
        .with_state(server)
}

impl Running {
    /// The address that it listens on, the port included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients have to show.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where browsers find it: `http://127.0.0.1:8030`.
    pub fn url(&self) -> String {
        format!("http://{}", pair::reachable_address(self.address))
    }

    /// The link that pairs a browser; None without a token. It holds the token: for people, not logs.
    pub fn pairing_link(&self) -> Option<String> {
        let token = self.token.as_deref()?;
        Some(format!("{}/pair?token={}", self.url(), encode(token)))
    }

    /// The pairing link as a QR code for a terminal.
    pub fn pairing_code(&self) -> Option<String> {
        pair::draw_code(&self.pairing_link()?)
    }

    /// Tells the server to end, without waiting for it.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Ends it: no new connections, sockets are closed, and requests that are under way get five
    /// seconds.
    pub async fn stop(mut self) -> io::Result<()> {
        self.stop.cancel();
        (&mut self.task)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
