//! Token ids and text encoders against the reference library's: the ids of unpleasant prompts as
//! tools/goldens/record_text.py recorded them, and the states of the recorded cases.

use std::{fs, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use kinora_diffusion::{
    Error,
    layers::Weights,
    text::{ClipEncoder, T5Encoder, Tokenizer},
};
use kinora_weights::{ClipConfig, Component, WeightSet, detect};
use serde::Deserialize;

/// The gate for text encoders, as a share of the standard deviation.
const GATE: f32 = 1e-4;

const CASES: [&str; 3] = ["flux_dev", "flux_schnell", "flux_dev_heldout"];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/text")
        .join(name)
}

/// A file or folder of a recorded case.
fn case(case: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tools/goldens/cases")
        .join(case)
        .join(name)
}

fn tokenizer(name: &str) -> PathBuf {
    case("flux_dev", "model").join(name)
}

#[derive(Deserialize)]
struct Ids {
    prompts: Vec<String>,
    clip: Vec<Vec<u32>>,
    t5: Vec<Vec<u32>>,
}

fn recorded_ids() -> Ids {
    serde_json::from_slice(&fs::read(fixture("ids.json")).unwrap()).unwrap()
}

#[track_caller]
fn check_ids(
    tokenizer: &Tokenizer,
    prompts: &[String],
    expected: &[Vec<u32>],
    length: usize,
    pad: u32,
) {
    assert_eq!(prompts.len(), expected.len());
    for (prompt, expected) in prompts.iter().zip(expected) {
        let mut expected = expected.clone();
        expected.resize(length, pad);
        assert_eq!(
            tokenizer.encode(prompt, length).unwrap(),
            expected,
            "{prompt:?}"
        );
    }
}

/// A copy of a tokenizer's folder, so that files can be taken out or damaged.
fn copy_folder(folder: PathBuf, without: &[&str]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if !without.contains(&entry.file_name().to_str().unwrap()) {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

#[test]
fn clip_ids_are_the_references_from_either_kind_of_file() {
    let ids = recorded_ids();
    for folder in [tokenizer("tokenizer"), fixture("tokenizer_json")] {
        let tokenizer = Tokenizer::open_clip(&folder).unwrap();
        assert_eq!(tokenizer.max_length(), Some(77));
        check_ids(&tokenizer, &ids.prompts, &ids.clip, 77, 663);
    }
}

#[test]
fn t5_ids_are_the_references_from_either_kind_of_file() {
    let ids = recorded_ids();
    let spiece_only = copy_folder(tokenizer("tokenizer_2"), &["tokenizer.json"]);
    for folder in [&tokenizer("tokenizer_2"), spiece_only.path()] {
        let tokenizer = Tokenizer::open_t5(folder).unwrap();
        check_ids(&tokenizer, &ids.prompts, &ids.t5, 512, 0);
    }
}

/// Recorded from `transformers.T5Tokenizer` 5.23.0 over the same vocabulary, by
/// tools/goldens/record_t5.py, which also holds it to the ids of the library's documentation.
#[test]
fn the_built_in_tokenizer_is_that_of_t5() {
    #[derive(Deserialize)]
    struct Recorded {
        prompts: Vec<String>,
        ids: Vec<Vec<u32>>,
    }
    let bytes = fs::read(fixture("t5_ids.json")).unwrap();
    let recorded: Recorded = serde_json::from_slice(&bytes).unwrap();
    assert!(recorded.prompts.len() > 30);
    let tokenizer = Tokenizer::t5().unwrap();
    check_ids(&tokenizer, &recorded.prompts, &recorded.ids, 512, 0);
    // From the documentation of the reference library.
    assert_eq!(
        tokenizer.encode("Hello, my dog is cute", 10).unwrap(),
        [8774, 6, 82, 1782, 19, 5295, 1, 0, 0, 0]
    );
    assert_eq!(tokenizer.padding(), 0);
}

/// Recorded by tools/goldens/record_gemma.py from `transformers.GemmaTokenizer` 5.23.0, whose pieces
/// are those of the same SentencePiece model.
#[test]
fn a_tokenizer_that_gemmas_file_carries_is_the_references() {
    #[derive(Deserialize)]
    struct Recorded {
        prompts: Vec<String>,
        ids: Vec<Vec<u32>>,
    }
    let bytes = fs::read(fixture("gemma_ids.json")).unwrap();
    let recorded: Recorded = serde_json::from_slice(&bytes).unwrap();
    assert!(recorded.prompts.len() > 25);
    let path = fixture("gemma_spiece.model");
    let model = fs::read(&path).unwrap();
    let tokenizer = Tokenizer::gemma_from_spiece(&path, &model).unwrap();
    for (prompt, expected) in recorded.prompts.iter().zip(&recorded.ids) {
        let ids = tokenizer.encode_unpadded(prompt).unwrap();
        assert_eq!(ids, *expected, "{prompt:?}");
    }
    assert_eq!(tokenizer.padding(), 0);
    // Each kind of model is refused in the other's place.
    let error = Tokenizer::from_spiece(&path, &model).err().unwrap();
    assert!(
        error.to_string().contains("not a tokenizer of T5"),
        "{error}"
    );
    let t5 = fs::read(self::tokenizer("tokenizer_2").join("spiece.model")).unwrap();
    let error = Tokenizer::gemma_from_spiece(&path, &t5).err().unwrap();
    assert!(
        error.to_string().contains("not a tokenizer of Gemma"),
        "{error}"
    );
    for at in (0..model.len()).step_by(97) {
        let mut damaged = model.clone();
        damaged[at] ^= 0x55;
        if let Ok(tokenizer) = Tokenizer::gemma_from_spiece(&path, &damaged) {
            let _ = tokenizer.encode_unpadded("a red car");
        }
    }
}

/// Recorded by tools/goldens/record_gguf_tokenizer.py: vocabularies as llama.cpp's converters write
/// them, and the ids of `transformers.T5Tokenizer` and `GemmaTokenizer` 5.23.0 over the same pieces.
#[test]
fn tokenizers_in_the_headers_of_gguf_files_are_the_references() {
    #[derive(Deserialize)]
    struct Recorded {
        prompts: Vec<String>,
        ids: Vec<Vec<u32>>,
    }
    let recorded = |name: &str| -> Recorded {
        serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
    };
    let path = fixture("umt5_vocabulary.gguf");
    let model = kinora_weights::stored_tokenizer(&path).unwrap().unwrap();
    let tokenizer = Tokenizer::from_spiece(&path, &model).unwrap();
    let expected = recorded("umt5_gguf_ids.json");
    assert!(expected.prompts.len() > 30);
    check_ids(&tokenizer, &expected.prompts, &expected.ids, 512, 0);

    let path = fixture("gemma_vocabulary.gguf");
    let model = kinora_weights::stored_tokenizer(&path).unwrap().unwrap();
    let tokenizer = Tokenizer::gemma_from_spiece(&path, &model).unwrap();
    let expected = recorded("gemma_ids.json");
    for (prompt, expected) in expected.prompts.iter().zip(&expected.ids) {
        assert_eq!(
            tokenizer.encode_unpadded(prompt).unwrap(),
            *expected,
            "{prompt:?}"
        );
    }

    // Whatever is wrong with a header, it is an answer.
    let bytes = fs::read(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for at in (0..bytes.len()).step_by(61) {
        let copy = folder.path().join(format!("{at}.gguf"));
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(&copy, damaged).unwrap();
        if let Ok(Some(model)) = kinora_weights::stored_tokenizer(&copy)
            && let Ok(tokenizer) = Tokenizer::gemma_from_spiece(&copy, &model)
        {
            let _ = tokenizer.encode_unpadded("a red car");
        }
        fs::remove_file(copy).unwrap();
    }
}

#[test]
fn prompts_that_are_too_long_end_with_the_end_token() {
    let tokenizer = Tokenizer::open_t5(&tokenizer("tokenizer_2")).unwrap();
    let whole = tokenizer
        .encode_unpadded("a painting of a squirrel")
        .unwrap();
    for length in 1..whole.len() {
        let cut = tokenizer
            .encode("a painting of a squirrel", length)
            .unwrap();
        assert_eq!(cut[..length - 1], whole[..length - 1]);
        assert_eq!(cut[length - 1], 1);
    }
    assert_eq!(
        tokenizer
            .encode("a painting of a squirrel", whole.len())
            .unwrap(),
        whole
    );
}

#[test]
fn absent_and_damaged_tokenizers_are_errors() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        Tokenizer::open_clip(empty.path()),
        Err(Error::Weights(_))
    ));
    assert!(matches!(
        Tokenizer::open_t5(empty.path()),
        Err(Error::Weights(_))
    ));
    for (name, file, text) in [
        (tokenizer("tokenizer"), "vocab.json", "{"),
        (tokenizer("tokenizer"), "vocab.json", r#"{"a":0}"#),
        (tokenizer("tokenizer"), "merges.txt", "one"),
        (tokenizer("tokenizer"), "merges.txt", "un known"),
        (tokenizer("tokenizer"), "tokenizer_config.json", "7"),
        (fixture("tokenizer_json"), "tokenizer.json", "{}"),
    ] {
        let copy = copy_folder(name, &[]);
        fs::write(copy.path().join(file), text).unwrap();
        let error = Tokenizer::open_clip(copy.path()).err().unwrap();
        assert!(
            matches!(error, Error::BadWeights { .. }),
            "{file} {text}: {error}"
        );
    }
    let copy = copy_folder(tokenizer("tokenizer_2"), &["tokenizer.json"]);
    fs::write(copy.path().join("spiece.model"), [0x0a, 0x7f]).unwrap();
    let error = Tokenizer::open_t5(copy.path()).err().unwrap();
    assert!(error.to_string().ends_with("it is cut off"), "{error}");
}

/// Changed bytes in the compiled tables give other ids or an error, never a panic.
#[test]
fn damaged_tables_never_panic() {
    let original = fs::read(tokenizer("tokenizer_2").join("spiece.model")).unwrap();
    let copy = copy_folder(tokenizer("tokenizer_2"), &["tokenizer.json"]);
    let prompts = recorded_ids().prompts;
    let mut state = 7_u64;
    for _ in 0..25 {
        let mut bytes = original.clone();
        for _ in 0..2000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            // The pieces lie before the tables; these stay whole, so that the model opens.
            let at = 4096 + (state >> 33) as usize % (bytes.len() - 8192);
            bytes[at] = (state >> 20) as u8;
        }
        fs::write(copy.path().join("spiece.model"), &bytes).unwrap();
        if let Ok(tokenizer) = Tokenizer::open_t5(copy.path()) {
            for prompt in &prompts {
                if let Ok(ids) = tokenizer.encode(prompt, 64) {
                    assert_eq!(ids.len(), 64);
                }
            }
        }
    }
}

fn golden(of: &str, name: &str) -> Tensor {
    let set = WeightSet::open_file(&case(of, "golden.safetensors")).unwrap();
    let view = set.get(name).unwrap();
    let dtype = match view.dtype {
        kinora_weights::Dtype::I64 => DType::I64,
        _ => DType::F32,
    };
    Tensor::from_raw_buffer(&set.read(name).unwrap(), dtype, &view.shape, &Device::Cpu).unwrap()
}

fn golden_ids(of: &str, name: &str) -> Vec<Vec<u32>> {
    golden(of, name)
        .to_dtype(DType::U32)
        .unwrap()
        .to_vec2()
        .unwrap()
}

/// The prompts of a case, and the length that T5 gets them in.
fn prompts(of: &str) -> (Vec<String>, usize) {
    #[derive(Deserialize)]
    struct Case {
        inputs: Inputs,
    }
    #[derive(Deserialize)]
    struct Inputs {
        prompt: Vec<String>,
        max_sequence_length: usize,
    }
    let case: Case = serde_json::from_slice(&fs::read(case(of, "case.json")).unwrap()).unwrap();
    (case.inputs.prompt, case.inputs.max_sequence_length)
}

#[track_caller]
fn assert_close(ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims());
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (flat(ours), flat(theirs));
    let mean = theirs.iter().sum::<f32>() / theirs.len() as f32;
    let variance = theirs
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f32>()
        / theirs.len() as f32;
    let worst = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        worst <= GATE * variance.sqrt(),
        "off by {} of the deviation",
        worst / variance.sqrt()
    );
}

fn open(of: &str, component: Component) -> Weights {
    let layout = detect(&case(of, "model")).unwrap();
    Weights::new(layout.open(component).unwrap(), &Device::Cpu, DType::F32)
}

fn clip(of: &str, change: impl Fn(&mut ClipConfig)) -> ClipEncoder {
    let mut config = detect(&case(of, "model"))
        .unwrap()
        .flux()
        .unwrap()
        .clip
        .clone();
    change(&mut config);
    ClipEncoder::load(&open(of, Component::TextEncoder), &config).unwrap()
}

fn t5(of: &str) -> T5Encoder {
    let config = detect(&case(of, "model"))
        .unwrap()
        .flux()
        .unwrap()
        .t5
        .clone();
    T5Encoder::load(&open(of, Component::TextEncoder2), &config).unwrap()
}

const CLIP_IDS: &str = "text_encoder.call0.in.input_ids";
const T5_IDS: &str = "text_encoder_2.call0.in.input_ids";

#[test]
fn recorded_prompts_get_their_ids() {
    for of in CASES {
        let (prompts, length) = prompts(of);
        let clip = Tokenizer::open_clip(&case(of, "model/tokenizer")).unwrap();
        let t5 = Tokenizer::open_t5(&case(of, "model/tokenizer_2")).unwrap();
        let encode = |tokenizer: &Tokenizer, length| -> Vec<Vec<u32>> {
            let ids = prompts
                .iter()
                .map(|prompt| tokenizer.encode(prompt, length));
            ids.collect::<Result<_, _>>().unwrap()
        };
        assert_eq!(encode(&clip, 77), golden_ids(of, CLIP_IDS), "{of}");
        assert_eq!(encode(&t5, length), golden_ids(of, T5_IDS), "{of}");
    }
}

#[test]
fn encoders_are_within_their_gate() {
    for of in CASES {
        let text = clip(of, |_| ()).forward(&golden_ids(of, CLIP_IDS)).unwrap();
        assert_close(
            &text.last,
            &golden(of, "text_encoder.call0.last_hidden_state"),
        );
        assert_close(&text.pooled, &golden(of, "encode_prompt.1"));
        let hidden = t5(of).forward(&golden_ids(of, T5_IDS), None).unwrap();
        assert_close(&hidden, &golden(of, "encode_prompt.0"));
    }
}

/// A configuration that tells the true end token finds the same end; one whose token never occurs
/// takes the first row, as the reference does.
#[test]
fn clip_finds_the_end_of_a_prompt() {
    let ids = golden_ids("flux_dev", CLIP_IDS);
    let pooled = |eos| {
        clip("flux_dev", |config| config.eos_token_id = eos)
            .forward(&ids)
            .unwrap()
            .pooled
    };
    assert_close(&pooled(663), &golden("flux_dev", "encode_prompt.1"));
    let first = golden("flux_dev", "text_encoder.call0.last_hidden_state")
        .narrow(1, 0, 1)
        .unwrap();
    assert_close(&pooled(661), &first.squeeze(1).unwrap());
}

/// The state before the last block is what an encoder without that block ends with, less its norm.
#[test]
fn clips_penultimate_state_is_without_the_last_block_and_norm() {
    let ids = golden_ids("flux_dev", CLIP_IDS);
    let whole = clip("flux_dev", |_| ()).forward(&ids).unwrap();
    let short = clip("flux_dev", |config| config.layers = 1)
        .forward(&ids)
        .unwrap();
    let norm = kinora_diffusion::layers::LayerNorm::load(
        &open("flux_dev", Component::TextEncoder).at("final_layer_norm"),
        24,
        1e-5,
    )
    .unwrap();
    assert_close(&norm.forward(&whole.penultimate).unwrap(), &short.last);
}

/// With a mask, padding changes nothing: the real tokens are as in an unpadded prompt. Without
/// one, it does.
#[test]
fn t5s_mask_hides_padding() {
    let padded = golden_ids("flux_dev", T5_IDS);
    let lengths: Vec<usize> = padded
        .iter()
        .map(|ids| ids.iter().position(|id| *id == 1).unwrap() + 1)
        .collect();
    assert!(lengths.iter().all(|length| *length < 48));
    let t5 = t5("flux_dev");
    let masked = t5.forward(&padded, Some(&lengths)).unwrap();
    let open = t5.forward(&padded, None).unwrap();
    for (row, length) in lengths.into_iter().enumerate() {
        let alone = t5.forward(&[padded[row][..length].to_vec()], None).unwrap();
        let part = |all: &Tensor| all.narrow(0, row, 1).unwrap().narrow(1, 0, length).unwrap();
        assert_close(&part(&masked), &alone);
        let difference = (part(&open) - &alone)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap();
        assert!(difference.max(0).unwrap().to_scalar::<f32>().unwrap() > 0.01);
    }
}

#[test]
fn ids_beyond_the_table_are_an_error() {
    let error = t5("flux_dev").forward(&[vec![5, 118]], None).unwrap_err();
    assert!(matches!(error, Error::Shape(_)), "{error}");
    assert!(
        t5("flux_dev")
            .forward(&[vec![1], vec![1, 2]], None)
            .is_err()
    );
    assert!(t5("flux_dev").forward(&[], None).is_err());
    assert!(clip("flux_dev", |_| ()).forward(&[vec![0; 78]]).is_err());
}
