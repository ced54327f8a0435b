//! Texts of errors of the process (`--error-pages`), for what no object has texts of its own for.

use std::sync::Arc;

use crate::{
    filter::error_pages::{ErrorPage, ErrorPages},
    objects::Objects,
    options::Options,
    problem::Problem,
    references::Reference,
};

/// The texts, and what is wrong with them; an error is shown in any case.
pub(super) fn read(
    options: &Options,
    objects: &Objects,
) -> (Option<Arc<ErrorPages>>, Vec<Problem>) {
    let Some(key) = &options.error_pages else { return (None, Vec::new()) };
    let reference = Reference::config_map(objects, key.clone());
    let object = reference.object().clone();
    let map = match reference.as_config_map(&object, "", "errors are worded here") {
        Ok(map) => map,
        Err(problem) => return (None, vec![*problem]),
    };
    let (mut pages, mut problems) = (Vec::new(), Vec::new());
    for (name, text) in map.data.iter().flatten() {
        match ErrorPage::parse(name, text) {
            Some(page) => pages.push(page),
            None => problems.push(Problem::warning(
                &object,
                "InvalidErrorPage",
                format!("data[{name}]"),
                "it is not the name of a page, or not an answer of HTTP",
                "name pages 404.html, 503.json, 5xx and the like, or error-page-503.http with a status line, fields, an \
                 empty line and the text",
            )),
        }
    }
    let pages = ErrorPages { pages: pages.into(), ..ErrorPages::default() };
    (Some(Arc::new(pages)), problems)
}
