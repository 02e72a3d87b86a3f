//! Who may ask. In this order, for every request, the WebSocket's included:
//!
//! 1. `Host` is a name or address of this server: a page elsewhere cannot reach it by pointing its
//!    own name here (DNS rebinding).
//! 2. `Origin`, where there is one, is the server's own or a trusted one; a browser that says the
//!    request crosses sites is refused, unless it shows the token openly.
//! 3. The token, where there is one, for everything but the UI's own files, pairing and health.
//!
//! Loopback without a token is open to the programs of this machine, and to nobody else.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use kinora_core::Code;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::{
    answer::Refusal,
    query::{decode, encode},
};

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The address on this machine that the client came in by.
    local: Option<SocketAddr>,
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self {
            local: stream.io().local_addr().ok(),
        }
    }
}

/// The rules of one server.
pub(crate) struct Guard {
    token: Option<String>,
    /// Lower-case names under which the server may be addressed, addresses aside.
    names: BTreeSet<String>,
    trusted_origins: BTreeSet<String>,
    cookie: String,
}

/// How a request showed the token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// In a header or the address: a foreign page cannot do that.
    Openly,
    /// In a cookie: the browser does that for any page.
    ByCookie,
    /// Not at all, or a wrong one.
    Not,
}

impl Guard {
    pub(crate) fn new(
        token: Option<String>,
        port: u16,
        allowed_hosts: &[String],
        trusted_origins: &[String],
    ) -> Self {
        let mut names = BTreeSet::from(["localhost".to_owned()]);
        if let Ok(host) = sysinfo::System::host_name() {
            let host = host.to_lowercase();
            let short = host.split('.').next().unwrap_or_default().to_owned();
            names.insert(format!("{short}.local"));
            names.insert(short);
            names.insert(host);
        }
        names.extend(allowed_hosts.iter().map(|name| name.to_lowercase()));
        names.remove("");
        Self {
            token,
            names,
            trusted_origins: trusted_origins
                .iter()
                .map(|origin| origin.to_lowercase())
                .collect(),
            // Browsers share cookies between the ports of a host.
            cookie: format!("kinora_{port}"),
        }
    }

    /// Whether a token is the right one; takes the same time for every wrong one of its length.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        let own = self.token.as_deref();
        own.is_some_and(|own| bool::from(own.as_bytes().ct_eq(token.as_bytes())))
    }

    /// The cookie that carries the token from now on. The caller has checked the token.
    pub(crate) fn write_cookie(&self, token: &str) -> Option<HeaderValue> {
        let cookie = format!(
            "{}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict",
            self.cookie,
            encode(token)
        );
        HeaderValue::from_str(&cookie).ok()
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        let host = host_of(request.uri(), headers).ok_or_else(|| {
            forbid(
                "the request does not say which host it is for",
                "Send one Host header.".to_owned(),
            )
        })?;
        let ends = request.extensions().get::<ConnectInfo<Ends>>();
        let local = ends
            .and_then(|ends| ends.0.local)
            .map(|local| local.ip().to_canonical());
        if !self.allows_host(host, local) {
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            return Err(forbid(
                "the request is for another host",
                format!(
                    "Open Kinora by the machine's address, or by {}.",
                    names.join(", ")
                ),
            ));
        }
        let shown = self.find_token(request);
        self.check_origin(request, host, shown)?;
        if self.token.is_some() && shown == Shown::Not && !is_public(request.uri().path()) {
            return Err(Refusal::new(
                Code::Unauthorized,
                "the request shows no token, or a wrong one",
                "Open the pairing link that Kinora printed when it started, or send the token as \
                 Authorization: Bearer.",
            ));
        }
        Ok(())
    }

    /// `host` is what stands in the header: a name or an address, and perhaps a port. The port is
    /// not compared: behind a forwarded port it is another one, and it protects from nothing.
    fn allows_host(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(name).parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback() || Some(address) == local || self.names.contains(name);
        }
        self.names
            .contains(name.trim_end_matches('.').to_lowercase().as_str())
    }

    fn check_origin(&self, request: &Request, host: &str, shown: Shown) -> Result<(), Refusal> {
        let headers = request.headers();
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default().to_lowercase();
            let own = origin
                .split_once("://")
                .filter(|(scheme, _)| ["http", "https"].contains(scheme));
            let is_own = own.is_some_and(|(_, authority)| authority == host.to_lowercase());
            if is_own || self.trusted_origins.contains(&origin) {
                return Ok(());
            }
            return Err(forbid(
                "the request comes from a page of another origin",
                "Use Kinora's own page, or a program that is no browser.".to_owned(),
            ));
        }
        let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let crosses = matches!(get("sec-fetch-site"), Some("cross-site" | "same-site"));
        let is_visit = get("sec-fetch-mode") == Some("navigate")
            && request.method() == Method::GET
            && is_public(request.uri().path());
        if crosses && !is_visit && shown != Shown::Openly {
            return Err(forbid(
                "the request comes from a page of another site",
                "Use Kinora's own page, or a program that is no browser.".to_owned(),
            ));
        }
        Ok(())
    }

    fn find_token(&self, request: &Request) -> Shown {
        let headers = request.headers();
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        if bearer.is_some_and(|token| self.accepts(token)) {
            return Shown::Openly;
        }
        // Addresses end up in histories and logs, so only what cannot send headers may do this.
        let path = request.uri().path();
        let may_be_in_address = path == "/ws" || path.starts_with("/media/");
        if may_be_in_address
            && token_in_query(request.uri()).is_some_and(|token| self.accepts(&token))
        {
            return Shown::Openly;
        }
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut pairs = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        if pairs.any(|(name, token)| {
            name == self.cookie && decode(token).is_ok_and(|token| self.accepts(&token))
        }) {
            return Shown::ByCookie;
        }
        Shown::Not
    }

    /// Lets the pages of trusted origins read answers; nobody else's.
    fn share(&self, origin: Option<HeaderValue>, response: &mut Response) {
        let trusted = origin.filter(|origin| {
            let origin = origin.to_str().unwrap_or_default().to_lowercase();
            self.trusted_origins.contains(&origin)
        });
        if let Some(origin) = trusted {
            response
                .headers_mut()
                .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
}

/// The middleware around every route.
pub(crate) async fn watch(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let started = std::time::Instant::now();
    let is_shown = guard.find_token(&request) == Shown::Openly;
    let mut response = match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    guard.share(origin, &mut response);
    protect(&path, is_shown, response.headers_mut());
    // Path without query: tokens never reach the log.
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed = ?started.elapsed(), "answered");
    response
}

/// What every answer tells the browser to keep from doing.
fn protect(path: &str, is_token_shown: bool, headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    // Pages bring their own policy; anything else is no page and may load nothing.
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    // The desktop window shows media from another origin than its own, with the token.
    let is_shared = is_token_shown && path.starts_with("/media/");
    let policy = if is_shared {
        "cross-origin"
    } else {
        "same-origin"
    };
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        policy,
    );
}

fn forbid(message: &str, hint: String) -> Refusal {
    Refusal::new(Code::Forbidden, message, hint)
}

/// What a client without a token may see: the UI's own files, which hold nothing of the user's.
fn is_public(path: &str) -> bool {
    let is_below = |root: &str| {
        path == root
            || path
                .strip_prefix(root)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    !["/api", "/ws", "/media"].into_iter().any(is_below)
}

/// The host that a request names: HTTP/2 puts it into the address, HTTP/1.1 into one header.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    if hosts.next().is_some() {
        return None;
    }
    match (uri.authority(), host) {
        (Some(authority), None) => Some(authority.as_str()),
        (Some(authority), Some(host)) if authority.as_str() != host => None,
        (_, host) => host,
    }
}

/// `name`, `name:port`, `[address]`, `[address]:port` without the port.
fn without_port(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') {
        host.find(']')? + 1
    } else {
        host.find(':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at(end);
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.parse::<u16>().is_ok());
    (is_port && !name.is_empty()).then_some(name)
}

/// The `token` of a query.
pub(crate) fn token_in_query(uri: &Uri) -> Option<String> {
    let text = uri
        .query()?
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))?;
    decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(
            Some("secret-token".to_owned()),
            8030,
            &["Studio.example".to_owned()],
            &[],
        )
    }

    #[test]
    fn only_own_names_are_answered_to() {
        let guard = guard();
        let lan = Some("192.168.1.7".parse().unwrap());
        for host in [
            "localhost",
            "localhost:8030",
            "LOCALHOST:1",
            "127.0.0.1:8030",
            "127.1.2.3",
            "[::1]:8030",
            "192.168.1.7:8030",
            "studio.example",
            "studio.example.:443",
            "localhost.",
        ] {
            assert!(guard.allows_host(host, lan), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "192.168.1.8",
            "",
            ":8030",
            "localhost:x",
            "localhost:99999",
            "[::1",
            "[fe80::1]",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "user@localhost",
        ] {
            assert!(!guard.allows_host(host, lan), "{host}");
        }
        let name = sysinfo::System::host_name()
            .unwrap_or_default()
            .to_lowercase();
        if !name.is_empty() {
            assert!(guard.allows_host(&name, lan));
            assert!(guard.allows_host(
                &format!("{}.local:80", name.split('.').next().unwrap()),
                lan
            ));
        }
    }

    #[test]
    fn public_paths_are_those_of_the_ui() {
        for path in [
            "/",
            "/assets/x.js",
            "/pair",
            "/healthz",
            "/docs/",
            "/apix",
            "/wsx",
        ] {
            assert!(is_public(path), "{path}");
        }
        for path in ["/api", "/api/jobs", "/ws", "/media/assets/x", "/media"] {
            assert!(!is_public(path), "{path}");
        }
    }
}
