//! Who answers for the cluster. Any job manager may be asked; one that does not lead sends the client on to the leader.

use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api::ClusterApi;
use crate::exchange::Failure;

/// Who leads just now.
#[derive(Clone)]
pub enum Leading {
    /// This process.
    Here(Arc<dyn ClusterApi>),
    /// Another one, whose REST server is at this URL (`http://HOST:PORT`).
    At(String),
    /// Nobody is known, as while a new leader is being found.
    Unknown,
}

impl fmt::Debug for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(_) => f.write_str("Here"),
            Self::At(url) => f.debug_tuple("At").field(url).finish(),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

/// Whoever can answer a request for this path.
pub(crate) fn leader(leading: &Leading, asked: &Uri) -> Result<Arc<dyn ClusterApi>, NotLeading> {
    match leading {
        Leading::Here(api) => Ok(Arc::clone(api)),
        Leading::At(url) => {
            let path = asked.path_and_query().map_or("/", |path| path.as_str());
            let location = HeaderValue::from_str(&format!("{}{path}", url.trim_end_matches('/')));
            Err(location.map_or_else(|_| NotLeading::Unusable(url.clone()), NotLeading::Elsewhere))
        }
        Leading::Unknown => Err(NotLeading::Unknown),
    }
}

/// Why this process does not answer.
#[derive(Debug)]
pub(crate) enum NotLeading {
    /// The same request, also with its method and body, is answered there.
    Elsewhere(HeaderValue),
    /// The leader tells an address that is none.
    Unusable(String),
    /// Nobody is known to lead.
    Unknown,
}

impl IntoResponse for NotLeading {
    fn into_response(self) -> Response {
        let unavailable = |message| Failure::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response();
        match self {
            Self::Elsewhere(location) => {
                (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
            }
            Self::Unusable(url) => unavailable(format!("the leader of the cluster tells no usable address: {url}")),
            Self::Unknown => {
                unavailable("no leader of the cluster is known just now; try again in a moment".to_string())
            }
        }
    }
}
