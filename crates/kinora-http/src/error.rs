//! Why the server did not start.

use std::{io, net::SocketAddr};

/// Why the server did not start. Messages read well after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Anyone in the network could use an open server.
    #[error(
        "serve on {address}: every address but loopback demands a token; set one, or listen on 127.0.0.1"
    )]
    TokenRequired {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The name of the host has no address.
    #[error("find the address of {host:?}: {source}")]
    Resolve {
        /// The name asked for.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The port is taken, or not allowed.
    #[error("listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}
