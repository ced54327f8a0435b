//! Fields that nobody reads: what an object says besides what its type knows.
//!
//! [`read`] stands between a parser and a type, and notes what the type leaves out, with the name that was
//! probably meant; the readers of manifests and of the API server call it. [`limits`] says which of them would
//! have kept clients out: an object that lacks one of those must not be taken for one that never had it.

use std::cell::RefCell;

use gatehouse_routes::annotations::gatehouse;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{Kind, Object};

/// A field that the type of its object does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Its path, as Kubernetes writes it.
    pub(crate) path: String,
    /// The name that was probably meant.
    pub(crate) meant: Option<&'static str>,
}

impl Unread {
    /// Its own name.
    fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// `: host was meant?`, or nothing.
    pub(crate) fn advice(&self) -> String {
        self.meant.map(|meant| format!(": {meant} was meant?")).unwrap_or_default()
    }
}

/// Reads a value, and adds what it holds in vain.
pub(crate) fn read<'de, D, T>(deserializer: D, unread: &mut Vec<Unread>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    let notes = RefCell::default();
    let value = T::deserialize(Watch { inner: deserializer, notes: &notes })?;
    unread.extend(notes.into_inner().unread);
    Ok(value)
}

/// The same of a value that holds one object; an error comes with its place.
pub(crate) fn read_value<T: DeserializeOwned>(
    value: &Value,
    unread: &mut Vec<Unread>,
) -> Result<T, (String, serde_json::Error)> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    read(tracked, unread).map_err(|error| (field_path(&track.path()), error))
}

/// Keeps an object from being taken for one that says less: an Ingress or a Route is told to be closed, any other
/// kind is refused for the field that is returned.
pub(crate) fn close(object: &mut Object, unread: &[Unread]) -> Result<(), Unread> {
    let kind = object.kind();
    let mut limiting = unread.iter().filter(|one| limits(kind, one)).peekable();
    let Some(first) = limiting.peek() else { return Ok(()) };
    if !matches!(kind, Kind::Ingress | Kind::Route) {
        return Err((*first).clone());
    }
    let list = limiting.map(|one| match one.meant {
        Some(meant) => format!("{}={meant}", one.path),
        None => one.path.clone(),
    });
    let list: Vec<_> = list.collect();
    let annotations = object.metadata_mut().annotations.get_or_insert_default();
    annotations.insert(gatehouse::unread_fields(), list.join(" "));
    Ok(())
}

/// A path as Kubernetes writes it: `spec.rules[0].host`; empty for the document itself.
pub(in crate::source) fn field_path(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text += &format!("[{index}]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !text.is_empty() {
                    text.push('.');
                }
                text += key;
            }
            Segment::Unknown => {}
        }
    }
    text
}

/// Words in the name of a field that say that it limits.
const WORDS: [&str; 20] = [
    "allow",
    "annotation",
    "auth",
    "deny",
    "except",
    "interface",
    "label",
    "limit",
    "match",
    "namespace",
    "node",
    "only",
    "password",
    "peer",
    "pool",
    "restrict",
    "secret",
    "select",
    "source",
    "tls",
];
/// Fields that limit, whatever the kind.
const ANYWHERE: [&str; 8] = [
    "annotations",
    "key",
    "labels",
    "matchExpressions",
    "matchLabels",
    "operator",
    "spec",
    "values",
];

/// Fields of a kind that limit who is served, where, or by whom.
fn limiting(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Ingress => &["host", "hosts", "ingressClassName", "path", "pathType", "tls"],
        Kind::Route => &[
            "destinationCACertificate",
            "host",
            "insecureEdgeTerminationPolicy",
            "path",
            "subdomain",
            "termination",
            "tls",
            "wildcardPolicy",
        ],
        Kind::IngressClass => &["controller", "kind", "name", "namespace", "parameters", "scope"],
        Kind::Service => &["loadBalancerClass", "loadBalancerSourceRanges"],
        Kind::IpAddressPool => &[
            "autoAssign",
            "namespaceSelectors",
            "namespaces",
            "serviceAllocation",
            "serviceSelectors",
        ],
        Kind::L2Advertisement => &[
            "interfaces",
            "ipAddressPoolSelectors",
            "ipAddressPools",
            "nodeSelectors",
            "serviceSelectors",
        ],
        Kind::BgpAdvertisement => &[
            "communities",
            "ipAddressPoolSelectors",
            "ipAddressPools",
            "nodeSelectors",
            "peers",
            "serviceSelectors",
        ],
        Kind::BgpPeer => {
            &["interface", "nodeSelectors", "password", "passwordSecret", "sourceAddress", "vrf"]
        }
        Kind::BfdProfile => &["minimumTtl"],
        Kind::Community
        | Kind::ConfigMap
        | Kind::EndpointSlice
        | Kind::Namespace
        | Kind::Node
        | Kind::Secret => &[],
    }
}

/// Whether a field may have kept clients out.
pub(crate) fn limits(kind: Kind, unread: &Unread) -> bool {
    let known = limiting(kind);
    if matches!(
        kind,
        Kind::ConfigMap | Kind::EndpointSlice | Kind::Namespace | Kind::Node | Kind::Secret
    ) {
        return false;
    }
    let listed = |name: &str| {
        let same = |one: &&str| one.eq_ignore_ascii_case(name);
        known.iter().chain(&ANYWHERE).any(same)
    };
    match unread.meant {
        Some(meant) => listed(meant),
        None => {
            let name = unread.name().to_ascii_lowercase();
            listed(&name) || WORDS.iter().any(|word| name.contains(word))
        }
    }
}

/// Of the fields of a type, the one whose name is nearly this.
fn nearest(name: &str, fields: &'static [&'static str]) -> Option<&'static str> {
    const LONGEST: usize = 63;
    if name.len() > LONGEST {
        return None;
    }
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '_'], "");
    let given = plain(name);
    let edits = fields.iter().map(|field| (strsim::osa_distance(&given, &plain(field)), *field));
    // A plural, a letter too many, two of them exchanged; of a short name that would be another word.
    let near = edits.filter(|(edits, field)| *edits <= 3 && edits * 3 <= field.len());
    near.min_by_key(|(edits, _)| *edits).map(|(_, field)| field)
}

#[derive(Debug, Default)]
struct Notes {
    /// Where in the object: `.name` and `[3]`.
    path: String,
    /// The fields of the type that is being read.
    fields: &'static [&'static str],
    unread: Vec<Unread>,
}

impl Notes {
    /// The value at the present place is thrown away.
    fn note(&mut self) {
        let path = self.path.trim_start_matches('.');
        // Every object says what it is, and what others have made of it.
        let expected = ["apiVersion", "kind", "status"].contains(&path);
        if !expected && !path.starts_with("status.") && !path.is_empty() {
            let name = path.rsplit('.').next().unwrap_or_default();
            let meant = nearest(name, self.fields);
            self.unread.push(Unread { path: path.to_owned(), meant });
        }
    }
}

/// A parser, watched.
struct Watch<'n, D> {
    inner: D,
    notes: &'n RefCell<Notes>,
}

/// A visitor of a type, watched.
struct Watched<'n, V> {
    inner: V,
    notes: &'n RefCell<Notes>,
    fields: Option<&'static [&'static str]>,
}

impl<'n, D> Watch<'n, D> {
    fn over<V>(&self, visitor: V) -> Watched<'n, V> {
        Watched { inner: visitor, notes: self.notes, fields: None }
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.over(visitor);
            self.inner.$method($($argument,)* visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Watch<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any(); deserialize_bool(); deserialize_i8(); deserialize_i16(); deserialize_i32();
        deserialize_i64(); deserialize_i128(); deserialize_u8(); deserialize_u16(); deserialize_u32();
        deserialize_u64(); deserialize_u128(); deserialize_f32(); deserialize_f64(); deserialize_char();
        deserialize_str(); deserialize_string(); deserialize_bytes(); deserialize_byte_buf();
        deserialize_option(); deserialize_unit(); deserialize_seq(); deserialize_map();
        deserialize_identifier();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Watched { fields: Some(fields), ..self.over(visitor) };
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.notes.borrow_mut().note();
        self.inner.deserialize_ignored_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty);)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watched<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.expecting(formatter)
    }

    visit! {
        visit_bool(bool); visit_i8(i8); visit_i16(i16); visit_i32(i32); visit_i64(i64); visit_i128(i128);
        visit_u8(u8); visit_u16(u16); visit_u32(u32); visit_u64(u64); visit_u128(u128); visit_f32(f32);
        visit_f64(f64); visit_char(char); visit_str(&str); visit_borrowed_str(&'de str);
        visit_string(String); visit_bytes(&[u8]); visit_borrowed_bytes(&'de [u8]); visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Watch { inner: deserializer, notes: self.notes })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Watch { inner: deserializer, notes: self.notes })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Items { inner: seq, notes: self.notes, index: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let fields = self.fields.unwrap_or_default();
        self.inner.visit_map(Entries { inner: map, notes: self.notes, fields, key: String::new() })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(data)
    }
}

/// The items of a list, watched.
struct Items<'n, A> {
    inner: A,
    notes: &'n RefCell<Notes>,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let step = format!("[{}]", self.index);
        self.index += 1;
        self.inner.next_element_seed(Below { seed, notes: self.notes, step: &step, fields: &[] })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// The entries of a map or a type, watched.
struct Entries<'n, A> {
    inner: A,
    notes: &'n RefCell<Notes>,
    fields: &'static [&'static str],
    key: String,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(Key { inner: seed, text: &mut self.key })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let step = format!(".{}", self.key);
        let (notes, fields) = (self.notes, self.fields);
        self.inner.next_value_seed(Below { seed, notes, step: &step, fields })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// A value one step below.
struct Below<'s, 'n, T> {
    seed: T,
    notes: &'n RefCell<Notes>,
    step: &'s str,
    fields: &'static [&'static str],
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Below<'_, '_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        let before = {
            let mut notes = self.notes.borrow_mut();
            let before = notes.path.len();
            notes.path.push_str(self.step);
            notes.fields = self.fields;
            before
        };
        let value = self.seed.deserialize(Watch { inner: deserializer, notes: self.notes });
        self.notes.borrow_mut().path.truncate(before);
        value
    }
}

/// A key, whose text is kept: for the seed, then for its deserializer, then for its visitor.
struct Key<'k, T> {
    inner: T,
    text: &'k mut String,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Key { inner: deserializer, text: self.text })
    }
}

macro_rules! forward_key {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(Key { inner: visitor, text: self.text })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Key<'_, D> {
    type Error = D::Error;

    forward_key! { deserialize_any deserialize_str deserialize_string deserialize_identifier }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Key<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.expecting(formatter)
    }

    visit! { visit_bool(bool); visit_i64(i64); visit_u64(u64); visit_f64(f64); }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        text.clone_into(self.text);
        self.inner.visit_str(text)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        text.clone_into(self.text);
        self.inner.visit_borrowed_str(text)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<V::Value, E> {
        self.text.clone_from(&text);
        self.inner.visit_string(text)
    }
}

#[cfg(test)]
mod tests;
