//! Which fields a type reads, found by reading it: a deserializer that offers every field a type asks for
//! and notes its path (`spec.to.weight`, `hosts[]`, `labels.*`).

use std::{cell::RefCell, collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
        value::{Error, StrDeserializer},
    },
    forward_to_deserialize_any,
};

/// Paths of all values that a type reads, without those that hold others.
pub(super) fn read_by<'de, T: Deserialize<'de> + fmt::Debug>() -> BTreeSet<String> {
    let seen = RefCell::default();
    T::deserialize(Probe { path: String::new(), seen: &seen })
        .unwrap_or_else(|error| panic!("a type that cannot be probed: {error}"));
    seen.into_inner()
}

/// Stands for whatever value is asked for.
struct Probe<'a> {
    path: String,
    seen: &'a RefCell<BTreeSet<String>>,
}

impl Probe<'_> {
    fn below(&self, step: &str) -> Self {
        let dot = if self.path.is_empty() || step == "[]" { "" } else { "." };
        Self { path: format!("{}{dot}{step}", self.path), seen: self.seen }
    }

    fn leaf(self) {
        self.seen.borrow_mut().insert(self.path);
    }
}

macro_rules! leaves {
    ($($method:ident => $visit:ident($value:expr);)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                self.leaf();
                visitor.$visit($value)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    leaves! {
        deserialize_any => visit_i64(1);
        deserialize_bool => visit_bool(true);
        deserialize_i32 => visit_i32(1);
        deserialize_i64 => visit_i64(1);
        deserialize_u32 => visit_u32(1);
        deserialize_u64 => visit_u64(1);
        deserialize_str => visit_str("");
        deserialize_string => visit_str("");
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Steps { probe: self, steps: &["[]"], at: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Steps { probe: self, steps: &["*"], at: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Steps { probe: self, steps: fields, at: 0 })
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

/// Offers each step once.
struct Steps<'a> {
    probe: Probe<'a>,
    steps: &'static [&'static str],
    at: usize,
}

impl<'de> SeqAccess<'de> for Steps<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(step) = self.steps.get(self.at) else { return Ok(None) };
        self.at += 1;
        seed.deserialize(self.probe.below(step)).map(Some)
    }
}

impl<'de> MapAccess<'de> for Steps<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(step) = self.steps.get(self.at) else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = (*step).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.at += 1;
        seed.deserialize(self.probe.below(self.steps[self.at - 1]))
    }
}
