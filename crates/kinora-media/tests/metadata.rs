//! Settings in files that other programs wrote: each fixture was made by `fixtures/make.py` with an
//! encoder that is not ours.

use kinora_core::{Rng, Sampler, Schedule, Seed};
use kinora_media::{Metadata, Source, parse_infotext, read_metadata, read_settings_text};

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

fn read(name: &str) -> Metadata {
    read_metadata(&fixture(name)).unwrap()
}

const PROMPT: &str =
    "a red fox in the snow, <lora:detail:0.8>, masterpiece\nsecond line: of the prompt";

#[test]
fn the_same_infotext_comes_out_of_every_container() {
    for name in [
        "a1111.png",
        "a1111_zipped.png",
        "a1111.jpg",
        "a1111_prefixed.webp",
        "civitai.jpg",
    ] {
        let found = read(name);
        assert_eq!(found.source, Source::A1111, "{name}");
        assert_eq!(found.prompt.as_deref(), Some(PROMPT), "{name}");
        assert_eq!(
            found.negative_prompt.as_deref(),
            Some("blurry, lowres\nbad hands"),
            "{name}"
        );
        let model = found.model.as_ref().unwrap();
        assert_eq!(model.name.as_deref(), Some("v1-5-pruned-emaonly"));
        assert_eq!(model.hash.as_deref(), Some("6ce0161689"));
        assert_eq!(model.hash_kind.as_deref(), Some("autov2"));
        assert_eq!(
            (found.width, found.height, found.steps),
            (Some(512), Some(768), Some(20))
        );
        assert_eq!(
            (found.cfg, found.seed),
            (Some(7.5), Some(Seed(965_400_086)))
        );
        assert_eq!(found.sampler.as_deref(), Some("Euler"));
        assert_eq!(found.scheduler.as_deref(), Some("Simple"));
        assert_eq!(
            found.rng,
            Some(Rng::Cuda),
            "the web UI draws its noise on the GPU"
        );
        assert_eq!(found.loras.len(), 1);
        assert_eq!(found.loras[0].name, "detail");
        assert_eq!(found.loras[0].weight, Some(0.8));
        assert_eq!(found.loras[0].hash.as_deref(), Some("7c6bad76eb54"));
        assert_eq!(found.settings["Clip skip"], "2");
        assert!(found.settings["Hashes"].starts_with("{\"model\""));
        assert!(found.notes.is_empty(), "{name}: {:?}", found.notes);
    }
}

#[test]
fn other_scripts_and_emoji_survive_every_encoding() {
    for name in [
        "a1111_cjk.png",
        "a1111_cjk_zipped.png",
        "a1111_little.jpg",
        "a1111_marked.webp",
    ] {
        let found = read(name);
        assert_eq!(
            found.prompt.as_deref(),
            Some("猫とロボット 🤖, 夜の東京"),
            "{name}"
        );
        assert_eq!(found.negative_prompt.as_deref(), Some("ぼやけた"), "{name}");
        assert_eq!(found.seed, Some(Seed(u64::MAX)), "{name}");
        let (request, _) = found.to_request();
        assert_eq!(request.true_cfg, None, "a scale of 1 means off");
    }
}

#[test]
fn comfyui_graphs_are_walked_from_the_picture_back_to_the_loader() {
    for name in ["comfyui_flux.png", "comfyui.webp", "comfyui_animated.png"] {
        let found = read(name);
        assert_eq!(found.source, Source::Comfyui, "{name}");
        assert_eq!(found.prompt.as_deref(), Some("a lighthouse at dusk"));
        assert_eq!(found.negative_prompt, None);
        assert_eq!(
            found.model.as_ref().unwrap().name.as_deref(),
            Some("flux1-dev.safetensors")
        );
        assert_eq!(
            (found.width, found.height, found.steps),
            (Some(1024), Some(768), Some(28))
        );
        assert_eq!((found.guidance, found.cfg), (Some(3.5), None));
        assert_eq!(found.sampler.as_deref(), Some("euler"));
        assert_eq!(found.scheduler.as_deref(), Some("simple"));
        assert_eq!(found.seed, Some(Seed(219_670_278_747_233)));
        assert_eq!(found.rng, Some(Rng::Cpu));
        assert_eq!(found.loras[0].name, "art.safetensors");
        assert_eq!(found.loras[0].weight, Some(0.75));
        assert!(
            found.raw.contains_key("prompt"),
            "{name}: the raw text is kept"
        );
        let (request, notes) = found.to_request();
        assert_eq!(request.guidance, Some(3.5));
        assert!(request.sampler.is_some() && request.schedule.is_some());
        assert_eq!(notes, ["LoRAs are left out: art.safetensors."]);
    }
}

#[test]
fn the_classic_graph_with_two_passes_yields_the_first_pass() {
    let graph = serde_json::json!({
        "3": {"class_type": "KSampler", "inputs": {"seed": ["20", 0], "steps": 20, "cfg": 7, "sampler_name": "euler",
            "scheduler": "normal", "denoise": 1, "model": ["4", 0], "positive": ["30", 0], "negative": ["30", 1], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 640, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["21", 0], "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["12", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        "11": {"class_type": "LatentUpscale", "inputs": {"width": 1024, "height": 1280, "samples": ["3", 0]}},
        "12": {"class_type": "KSampler", "inputs": {"seed": 2, "steps": 10, "cfg": 8, "sampler_name": "dpmpp_2m",
            "scheduler": "karras", "denoise": 0.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["11", 0]}},
        "20": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
        "21": {"class_type": "StringConcatenate", "inputs": {"string_a": "a barn", "string_b": ["22", 0], "delimiter": ", "}},
        "22": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "oil paint"}},
        "30": {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["6", 0], "negative": ["7", 0], "strength": 1}},
    });
    let found = read_settings_text(&graph.to_string());
    assert_eq!(found.source, Source::Comfyui);
    assert_eq!(found.prompt.as_deref(), Some("a barn, oil paint"));
    assert_eq!(found.negative_prompt.as_deref(), Some("ugly"));
    assert_eq!(
        (found.seed, found.steps, found.cfg),
        (Some(Seed(42)), Some(20), Some(7.0))
    );
    assert_eq!((found.width, found.height), (Some(512), Some(640)));
    assert_eq!(
        found.model.as_ref().unwrap().name.as_deref(),
        Some("sd15.safetensors")
    );
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    // The same graph as a client posts it, and as a string inside JSON.
    let posted = read_settings_text(&serde_json::json!({ "prompt": graph }).to_string());
    let wrapped = read_settings_text(
        &serde_json::json!({ "prompt": graph.to_string(), "workflow": {} }).to_string(),
    );
    assert_eq!(
        (posted.seed, posted.prompt.clone()),
        (found.seed, found.prompt.clone())
    );
    assert_eq!((wrapped.seed, wrapped.prompt), (found.seed, found.prompt));
}

#[test]
fn cyclic_and_branching_graphs_end() {
    let mut nodes = serde_json::Map::new();
    let keys = [
        "text",
        "string",
        "value",
        "prompt",
        "positive",
        "string_a",
        "string_b",
        "conditioning",
        "conditioning_1",
        "conditioning_2",
        "model",
        "samples",
        "latent_image",
        "sigmas",
        "guider",
        "seed",
    ];
    for id in 0..40 {
        let next = |step: usize| serde_json::json!([((id + step) % 40).to_string(), 0]);
        let inputs: serde_json::Map<_, _> = keys
            .iter()
            .enumerate()
            .map(|(i, key)| ((*key).to_owned(), next(i % 3)))
            .collect();
        let class = if id % 2 == 0 { "KSampler" } else { "SaveImage" };
        nodes.insert(
            id.to_string(),
            serde_json::json!({"class_type": class, "inputs": inputs}),
        );
    }
    let found = read_settings_text(&serde_json::Value::Object(nodes).to_string());
    assert_eq!(found.source, Source::Comfyui);
    assert_eq!(found.prompt, None);
}

#[test]
fn the_json_forms_are_told_apart() {
    let invoke = read("invokeai.png");
    assert_eq!(invoke.source, Source::Invokeai);
    assert_eq!(invoke.prompt.as_deref(), Some("a glass tower"));
    assert_eq!(
        (invoke.cfg, invoke.guidance, invoke.steps),
        (Some(1.0), Some(4.0), Some(30))
    );
    let model = invoke.model.unwrap();
    assert_eq!(model.hash, Some("ab".repeat(32)));
    assert_eq!(model.hash_kind.as_deref(), Some("blake3"));
    assert_eq!(
        (invoke.loras[0].name.as_str(), invoke.loras[0].weight),
        ("ink", Some(0.6))
    );
    assert_eq!(invoke.settings["generation_mode"], "flux_txt2img");

    let swarm = read("swarmui.png");
    assert_eq!(swarm.source, Source::Swarmui);
    assert_eq!(
        (swarm.seed, swarm.cfg, swarm.width),
        (Some(Seed(123)), Some(1.0), Some(512))
    );
    assert_eq!(swarm.model.unwrap().hash, Some("12".repeat(32)));
    assert_eq!(swarm.loras[0].hash, Some("34".repeat(32)));
    assert_eq!(
        (swarm.loras[1].name.as_str(), swarm.loras[1].weight),
        ("paper", Some(1.0))
    );

    let fooocus = read("fooocus.png");
    assert_eq!(fooocus.source, Source::Fooocus);
    assert_eq!(
        (fooocus.width, fooocus.height, fooocus.seed),
        (Some(1152), Some(896), Some(Seed(5_551_234)))
    );
    assert_eq!(
        fooocus.model.as_ref().unwrap().hash.as_deref(),
        Some("aeb7e9e689")
    );
    assert_eq!(fooocus.loras[0].weight, Some(0.1));
    let (request, notes) = fooocus.to_request();
    assert_eq!(request.sampler, Some(Sampler::Dpmpp2mSde));
    assert!(
        notes.iter().all(|note| !note.contains("dpmpp_2m_sde_gpu")),
        "{notes:?}"
    );

    let novelai = read("novelai.png");
    assert_eq!(novelai.source, Source::Novelai);
    assert_eq!(
        (novelai.prompt.as_deref(), novelai.seed),
        (Some("a girl under a tree"), Some(Seed(77)))
    );
    assert_eq!(
        (novelai.negative_prompt.as_deref(), novelai.cfg),
        (Some("lowres"), Some(5.5))
    );

    let easy = read("easydiffusion.png");
    assert_eq!(easy.source, Source::EasyDiffusion);
    assert_eq!(
        (easy.prompt.as_deref(), easy.steps),
        (Some("a green hill"), Some(25))
    );
    assert_eq!(easy.model.unwrap().name.as_deref(), Some("sd-v1-5"));

    let plain = read("plain.png");
    assert_eq!((plain.source, plain.prompt), (Source::None, None));
}

#[test]
fn an_infotext_beside_a_graph_wins_and_is_completed_from_it() {
    let graph = serde_json::json!({"1": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 9, "cfg": 2.0,
        "sampler_name": "euler", "scheduler": "beta", "positive": ["2", 0]}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "from the graph"}}});
    let png = kinora_media::encode(
        &[7; 3],
        1,
        1,
        kinora_core::ImageFormat::Png,
        &common::recipe("x"),
    )
    .unwrap();
    let png = kinora_media::strip_metadata(&png).unwrap();
    let texts = [
        (
            "parameters",
            "from the text\nSteps: 3, Seed: 5, CFG scale: 4",
        ),
        ("prompt", &graph.to_string()),
    ];
    let found = read_metadata(&common::with_texts(&png, &texts)).unwrap();
    assert_eq!(found.source, Source::A1111);
    assert_eq!(
        (found.prompt.as_deref(), found.steps, found.seed),
        (Some("from the text"), Some(3), Some(Seed(5)))
    );
    assert_eq!(found.scheduler.as_deref(), Some("beta"));
    assert_eq!(
        found.rng,
        Some(Rng::Cpu),
        "a graph's noise is drawn on the CPU"
    );
}

#[test]
fn infotexts_are_taken_apart_as_the_web_ui_does() {
    let parse = |text: &str| {
        let found = parse_infotext(text);
        (
            found.prompt,
            found.negative_prompt,
            found.settings.into_iter().collect::<Vec<_>>(),
        )
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    // Fewer than three pairs: the last line is prompt.
    assert_eq!(
        parse("a cat\nSteps: 20, Seed: 1"),
        ("a cat\nSteps: 20, Seed: 1".into(), "".into(), vec![])
    );
    assert_eq!(
        parse("style: oil, mood: calm"),
        ("style: oil, mood: calm".into(), "".into(), vec![])
    );
    // A prompt whose own last line looks like pairs, and real settings behind it.
    let (prompt, _, settings) = parse("a: b1, cd: e, fg: h\nSteps: 1, Sampler: Euler, Seed: 2");
    assert_eq!(prompt, "a: b1, cd: e, fg: h");
    assert_eq!(
        settings,
        [
            pair("Sampler", "Euler"),
            pair("Seed", "2"),
            pair("Steps", "1")
        ]
    );
    // Quoted values: commas, colons, escapes, line breaks; a broken quote stays raw.
    let (_, _, settings) = parse(
        "x\nSteps: 1, Note: \"a, b: \\\"c\\\"\\nd\", Bad: \"x\\q\", Open: \"y, Size: 8x9, End: z,",
    );
    assert_eq!(
        settings,
        [
            pair("Bad", "\"x\\q\""),
            pair("End", "z"),
            pair("Note", "a, b: \"c\"\nd"),
            pair("Open", "\"y"),
            pair("Size-1", "8"),
            pair("Size-2", "9"),
            pair("Steps", "1"),
        ]
    );
    // The web UI's own defaults.
    let found = parse_infotext("x\nSteps: 1, Sampler: Euler, Seed: 2");
    assert_eq!(found.setting("Clip skip"), Some("1"));
    assert_eq!(found.setting("RNG"), Some("GPU"));
    assert_eq!(found.setting("Steps"), Some("1"));
    assert_eq!(found.setting("Nothing"), None);
    // No prompt at all.
    assert_eq!(parse("Steps: 1, Sampler: Euler, Seed: 2").0, "");
    assert_eq!(parse("").0, "");
}

#[test]
fn the_quirks_of_other_writers_are_understood() {
    // All in one line.
    let found = parse_infotext(
        "a cat, Negative prompt: dog, Steps: 20, Sampler: Euler a, Seed: 3, Created Date: 2024-01-01T10:20:30.123Z",
    );
    assert_eq!(
        (found.prompt.as_str(), found.negative_prompt.as_str()),
        ("a cat", "dog")
    );
    assert_eq!(found.settings["Sampler"], "Euler a");
    assert_eq!(found.settings["Created Date"], "2024-01-01T10:20:30.123Z");
    // A heading, and templates behind the settings.
    let found = parse_infotext(
        "Parameters: a cat\nSteps: 20, Sampler: Euler, Seed: 3\nTemplate: a {cat|dog}, k1: a, k2: b, k3: c\nNegative Template: x",
    );
    assert_eq!(
        (found.prompt.as_str(), found.settings["Seed"].as_str()),
        ("a cat", "3")
    );
    assert_eq!(found.settings.len(), 3);
    // Raw JSON in the middle of the line.
    let found = parse_infotext(
        "a\nSteps: 1, Hashes: {\"a\": \"b, c}\"}, Seed: 2, Civitai resources: [{\"x\":[1,2]},{\"y\":3}], Civitai metadata: {}",
    );
    assert_eq!(found.settings.len(), 2);
    assert_eq!(found.resources["Hashes"], "{\"a\": \"b, c}\"}");
    assert_eq!(
        found.resources["Civitai resources"],
        "[{\"x\":[1,2]},{\"y\":3}]"
    );
    assert_eq!(found.resources["Civitai metadata"], "{}");
}

#[test]
fn what_another_program_could_and_kinora_cannot_is_said() {
    let found = read_settings_text(
        "a cat <lora:ink:1>, <lora:paper:0.5>\nSteps: 5, Sampler: DPM adaptive, Schedule type: KL Optimal, CFG scale: 6, Seed: -1, Size: 64x64, Hires upscale: 2, Clip skip: 2",
    );
    let (request, notes) = found.to_request();
    assert_eq!(request.prompt, "a cat");
    assert_eq!(
        (request.seed, request.true_cfg, request.width),
        (None, Some(6.0), Some(64))
    );
    for word in [
        "DPM adaptive",
        "KL Optimal",
        "ink, paper",
        "second pass",
        "Clip skip",
    ] {
        assert!(
            notes.iter().any(|note| note.contains(word)),
            "{word}: {notes:?}"
        );
    }
}

mod common;

/// What older and newer A1111, Forge and ComfyUI write is understood alike.
#[test]
fn samplers_and_spacings_are_understood_by_every_name() {
    let of = |text: &str| {
        let (request, notes) = read_settings_text(&format!("a cat\nSteps: 5, {text}")).to_request();
        (request.sampler, request.schedule, notes.len())
    };
    let karras = (Some(Sampler::Dpmpp2m), Some(Schedule::Karras), 0);
    assert_eq!(of("Sampler: DPM++ 2M Karras, Seed: 1"), karras);
    assert_eq!(
        of("Sampler: DPM++ 2M, Schedule type: Karras, Seed: 1"),
        karras
    );
    assert_eq!(
        of("Sampler: dpmpp_2m, Schedule type: karras, Seed: 1"),
        karras
    );
    let automatic = (Some(Sampler::EulerAncestral), None, 0);
    assert_eq!(
        of("Sampler: Euler a, Schedule type: Automatic, Seed: 1"),
        automatic
    );
    let unknown = (None, Some(Schedule::SgmUniform), 1);
    assert_eq!(
        of("Sampler: Restart, Schedule type: SGM Uniform, Seed: 1"),
        unknown
    );
}
