//! Seeds, and the random generator that a seed starts.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest integer that a JSON number keeps in every reader (2⁵³ − 1).
const MAX_EXACT_IN_JSON: u64 = (1 << 53) - 1;

/// A 64-bit seed. On the wire a number, or a decimal string where a number would lose digits
/// (other programs write seeds up to 2⁶⁴ − 1 into their files).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the `index`-th copy of one request: copies count upwards and wrap around.
    pub fn for_copy(self, index: u32) -> Self {
        Self(self.0.wrapping_add(u64::from(index)))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seed {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 <= MAX_EXACT_IN_JSON {
            serializer.serialize_u64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Seed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 18446744073709551615")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seed, E> {
                Ok(Seed(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seed, E> {
                u64::try_from(value)
                    .map(Seed)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seed, E> {
                text.parse()
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Seed {
    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A 64-bit seed: a number, or a decimal string beyond 2^53 - 1.",
            "oneOf": [
                { "type": "integer", "minimum": 0, "maximum": MAX_EXACT_IN_JSON },
                { "type": "string", "pattern": "^[0-9]{1,20}$" }
            ]
        })
    }
}

/// Which of PyTorch's generators the starting noise equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rng {
    /// `torch.Generator("cpu")`: Mersenne Twister; what ComfyUI and diffusers scripts use.
    #[default]
    Cpu,
    /// `torch.Generator("cuda")`: Philox 4×32; what A1111 uses by default.
    Cuda,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_survives_json_whole() {
        for seed in [0, 1, MAX_EXACT_IN_JSON, MAX_EXACT_IN_JSON + 1, u64::MAX] {
            let json = serde_json::to_value(Seed(seed)).unwrap();
            assert_eq!(json.is_string(), seed > MAX_EXACT_IN_JSON);
            assert_eq!(serde_json::from_value::<Seed>(json).unwrap(), Seed(seed));
        }
        for bad in ["-1", "1.5", "\"x\"", "\"18446744073709551616\"", "null"] {
            assert!(serde_json::from_str::<Seed>(bad).is_err(), "{bad}");
        }
    }
}
