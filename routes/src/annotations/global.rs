//! What the ConfigMap of ingress-nginx says of every Ingress and no annotation says.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::filter::{
    Filter,
    block::Block,
    compress::Levels,
    header_edits::{HeaderEdit, HeaderText},
};

/// What holds for every Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Global {
    /// Fields of requests that backends get.
    pub(crate) request_fields: Arc<[HeaderEdit]>,
    /// Fields of answers.
    pub(crate) answer_fields: Arc<[HeaderEdit]>,
    /// Clients that are kept out.
    pub(crate) block: Arc<Block>,
    /// Status of redirects to https, if not 308.
    pub(crate) https_status: Option<u16>,
    /// How hard answers are compressed.
    pub(crate) levels: Levels,
}

impl Global {
    /// The filters of every path.
    pub(super) fn filters(&self) -> impl Iterator<Item = Filter> {
        let edits = |edits: &Arc<[HeaderEdit]>| (!edits.is_empty()).then(|| Arc::clone(edits));
        let block = (*self.block != Block::default()).then(|| Arc::clone(&self.block));
        let request = edits(&self.request_fields).map(Filter::EditRequest);
        let answer = edits(&self.answer_fields).map(Filter::EditResponse);
        block.map(Filter::Block).into_iter().chain(request).chain(answer)
    }
}

/// A field that is set, or taken away where its value is empty.
pub(super) fn edit(name: HeaderName, value: &str) -> Option<HeaderEdit> {
    let value = match value.trim() {
        "" => None,
        text => Some(HeaderText::Fixed(HeaderValue::try_from(text).ok()?)),
    };
    Some(HeaderEdit { name, value })
}
