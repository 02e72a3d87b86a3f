//! Pairing: a link with the token, opened once, leaves a cookie in the browser.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use axum::{
    extract::State,
    http::{Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use kinora_core::Code;
use qrcode::{QrCode, render::unicode};

use crate::{answer::Refusal, guard::token_in_query, server::Shared};

/// `GET /pair?token=…`: sets the cookie and goes on to the UI.
pub(crate) async fn pair(State(server): State<Shared>, uri: Uri) -> Response {
    let token = token_in_query(&uri).unwrap_or_default();
    let cookie = server
        .guard
        .accepts(&token)
        .then(|| server.guard.write_cookie(&token))
        .flatten();
    match cookie {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        None => Refusal::new(
            Code::Unauthorized,
            "the pairing link holds no token, or a wrong one",
            "Use the link that Kinora printed when it started.",
        )
        .into_response(),
    }
}

/// The address under which other machines reach a server: its own, or, when it listens on all, the
/// one that this machine would speak to the network from. Sends nothing.
pub(crate) fn reachable_address(bound: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    // Connecting a UDP socket only chooses a route; the address is one reserved for documentation.
    let outgoing = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    let address = outgoing.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    SocketAddr::new(address, bound.port())
}

/// A link as a QR code of text blocks, for terminals with a dark background.
pub(crate) fn draw_code(link: &str) -> Option<String> {
    let code = QrCode::new(link.as_bytes()).ok()?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    let text = renderer
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .build();
    Some(text)
}
