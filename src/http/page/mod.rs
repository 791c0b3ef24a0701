//! The live page.
use super::Site;
use crate::handler::Handler;
use axum::Router;
use std::sync::Arc;
#[derive(Default, Debug)]
pub(super) struct Live;
pub(super) fn routes<H: Handler>() -> Router<Arc<Site<H>>> {
    Router::new()
}
pub(super) async fn watch<H: Handler>(_site: &Site<H>) {
    std::future::pending().await
}
