//! JSON of which only the syntax is relied on: a value of an unexpected type counts as absent.
//!
//! Inventories mix objects of every kind, of which some have a string where others have a map, and anybody may have
//! edited them. One odd field must not cost the rest of the file.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::time::Timestamp;

/// A type that some JSON values have; all others are its default.
pub(super) trait Lenient<'de>: Default {
    fn from_text(_: &str) -> Self {
        Self::default()
    }

    fn from_number(_: f64) -> Self {
        Self::default()
    }

    fn from_bool(_: bool) -> Self {
        Self::default()
    }

    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

/// A struct whose fields are read leniently, itself read leniently. Each derives `Deserialize` with defaults.
pub(super) trait Record<'de>: Deserialize<'de> + Default {}

impl<'de, T: Record<'de>> Lenient<'de> for T {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

impl Lenient<'_> for String {
    fn from_text(text: &str) -> Self {
        text.to_owned()
    }
}

impl Lenient<'_> for bool {
    fn from_bool(value: bool) -> Self {
        value
    }
}

impl Lenient<'_> for u64 {
    fn from_number(value: f64) -> Self {
        value as Self
    }
}

/// RFC 3339, or seconds since the epoch.
impl Lenient<'_> for Option<Timestamp> {
    fn from_text(text: &str) -> Self {
        moment(text)
    }

    fn from_number(value: f64) -> Self {
        plausible(Timestamp::from_secs_f64(value))
    }
}

impl<'de, T: Lenient<'de>> Lenient<'de> for Vec<T> {
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut all = Self::new();
        while let Some(Field(element)) = seq.next_element()? {
            all.push(element);
        }
        Ok(all)
    }
}

impl<'de, T: Lenient<'de>> Lenient<'de> for Option<Box<T>> {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Some(Box::new(T::from_map(map)?)))
    }
}

impl<'de, T: Lenient<'de>> Lenient<'de> for BTreeMap<String, T> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut all = Self::new();
        while let Some((key, Field(value))) = map.next_entry()? {
            all.insert(key, value);
        }
        Ok(all)
    }
}

/// For `#[serde(deserialize_with)]`.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Lenient<'de>,
{
    deserializer.deserialize_any(AnyType(PhantomData))
}

/// A lenient value where serde wants a type.
pub(super) struct Field<T>(pub(super) T);

impl<'de, T: Lenient<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        lenient(deserializer).map(Self)
    }
}

struct AnyType<T>(PhantomData<T>);

impl<'de, T: Lenient<'de>> Visitor<'de> for AnyType<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::from_bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok(T::from_number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok(T::from_number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<T, E> {
        Ok(T::from_number(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::from_text(text))
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        T::from_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::from_map(map)
    }
}

/// Structs of which every field is lenient, named as in JSON but for its camel case.
macro_rules! records {
    ($($(#[$doc:meta])+ $vis:vis $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])+
        #[derive(serde::Deserialize, Clone, PartialEq, Default, Debug)]
        #[serde(default, rename_all = "camelCase")]
        $vis struct $name {
            $($(#[$attr])* #[serde(deserialize_with = "crate::identity::inventory::lenient::lenient")] $vis $field: $type,)+
        }

        impl $crate::identity::inventory::lenient::Record<'_> for $name {}
    )+};
}

pub(super) use records;

/// A moment in RFC 3339; none when it is malformed or before the epoch (zero times of Go programs).
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    plausible(Timestamp::from_nanos(i64::try_from(nanos).ok()?))
}

fn plausible(time: Timestamp) -> Option<Timestamp> {
    (Timestamp::from_nanos(0) < time && time < Timestamp::MAX).then_some(time)
}

/// Text, or none when it is empty.
pub(super) fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Default, PartialEq, Debug)]
    #[serde(default)]
    struct Inner {
        #[serde(deserialize_with = "lenient")]
        name: String,
    }

    #[derive(Deserialize, Default, PartialEq, Debug)]
    #[serde(default)]
    struct Outer {
        #[serde(deserialize_with = "lenient")]
        inner: Inner,
        #[serde(deserialize_with = "lenient")]
        list: Vec<Inner>,
        #[serde(deserialize_with = "lenient")]
        at: Option<Timestamp>,
        #[serde(deserialize_with = "lenient")]
        flag: bool,
    }

    impl Record<'_> for Inner {}
    impl Record<'_> for Outer {}

    fn read(text: &str) -> Outer {
        serde_json::from_str::<Field<Outer>>(text).unwrap().0
    }

    #[test]
    fn values_of_other_types_count_as_absent() {
        let odd = r#"{"inner":[1,{"a":2}],"list":{"name":"x"},"at":true,"flag":"yes","more":{"deep":[[]]}}"#;
        assert_eq!(read(odd), Outer::default());
        for other in ["3", "\"text\"", "null", "[]", "true", "-1.5"] {
            assert_eq!(read(other), Outer::default(), "{other}");
        }
        let mixed = read(r#"{"list":[{"name":"a"},7,null,{"name":[]},{"name":"b"}],"flag":true}"#);
        let names: Vec<_> = mixed.list.iter().map(|inner| &*inner.name).collect();
        assert_eq!(names, ["a", "", "", "", "b"]);
        assert!(mixed.flag);
    }

    #[test]
    fn moments_come_as_text_or_number() {
        let at = |text: &str| read(&format!(r#"{{"at":{text}}}"#)).at;
        assert_eq!(
            at("\"1970-01-01T00:00:05Z\""),
            Some(Timestamp::from_secs(5))
        );
        assert_eq!(
            at("\"1970-01-01T02:00:05.25+02:00\""),
            Some(Timestamp::from_nanos(5_250_000_000))
        );
        assert_eq!(at("5.25"), Some(Timestamp::from_nanos(5_250_000_000)));
        for bad in [
            "\"0001-01-01T00:00:00Z\"",
            "\"9999-01-01T00:00:00Z\"",
            "\"today\"",
            "0",
            "-3",
            "1e300",
            "{}",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn broken_syntax_is_still_an_error() {
        assert!(serde_json::from_str::<Field<Outer>>(r#"{"inner":{"name":}}"#).is_err());
        let deep = "[".repeat(100_000);
        assert!(serde_json::from_str::<Field<Outer>>(&deep).is_err());
    }
}
