//! The denoiser of LTX-2 and 2.3: two streams of blocks, one of the picture's tokens and one of the
//! sound's, each with attention to itself and to its text, and attention of each to the other
//! between them; all modulated by time.
//!
//! Numbers and orders follow `LTX2VideoTransformer3DModel` of the diffusers library. Positions,
//! times, norms and modulations are computed in f32 whatever the weights are.
//!
//! What does not change from step to step is worked out once: [`Ltx2Context`] holds the texts (2.0:
//! their keys and values; in 2.3 they depend on time), [`Ltx2Time`] a step's modulations,
//! [`Ltx2Positions`] the positions.

use candle_core::{DType, Device, Tensor};
use kinora_weights::{LtxAudioConfig, LtxConfig};

use crate::{
    Error, Result,
    error::bail_shape,
    layers::{
        Activation, Adaptable, HeadSizes, KeysAndValues, Linear, Modulation, NormedCrossAttention,
        NormedSelfAttention, Pairs, Precision, RmsNorm, Rope, TimeModulation, Weights,
        distinct_times, on_workers, rope_of_shares,
    },
    step_cache::StepCache,
    text::Ltx2Text,
};

/// Of every norm.
const EPS: f64 = 1e-6;
/// What a position is a share of: seconds, pixels.
const SECONDS: f32 = 20.0;
const PIXELS: f32 = 2048.0;
/// Frames to a latent frame and pixels to a latent, as every VAE of LTX-2 has them.
const FRAMES_OF_LATENT: f32 = 8.0;
const PIXELS_OF_LATENT: f32 = 32.0;

/// What the blocks attend to besides each other.
#[derive(Debug)]
pub struct Ltx2Context {
    texts: Texts,
}

#[derive(Debug)]
enum Texts {
    /// 2.0: keys and values for every block, for the picture and for the sound.
    Ready(Vec<[KeysAndValues; 2]>),
    /// 2.3: (batch, tokens, width) each, of which each step makes other keys and values.
    Plain([Tensor; 2]),
}

/// A step's times as the blocks take them.
#[derive(Clone, Debug)]
pub struct Ltx2Time {
    video: StreamTime,
    audio: StreamTime,
}

/// Of one stream.
#[derive(Clone, Debug)]
struct StreamTime {
    /// (times, 6 or 9, hidden), f32
    modulation: Tensor,
    /// (times, 1, hidden), f32
    embedding: Tensor,
    /// Between the streams: scales and shifts (times, 4, hidden), then the gate (times, 1, hidden).
    cross: [Tensor; 2],
    /// Whether those follow the stream's own times.
    has_own_cross: bool,
    /// Of the text: (1, 2, hidden).
    prompt: Option<Tensor>,
    /// Which time belongs to each frame of tokens. None: there is one time.
    frames: Option<Vec<u32>>,
}

/// Where tokens are.
#[derive(Clone, Debug)]
pub struct Ltx2Positions {
    video: Rope,
    audio: Rope,
    /// In time alone, for attention between the streams.
    video_cross: Rope,
    audio_cross: Rope,
}

/// How a call differs from the ordinary one, to guide it away from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ltx2Blindness<'a> {
    /// Not at all.
    #[default]
    None,
    /// In these blocks every token sees itself alone: spatio-temporal guidance.
    Tokens(&'a [usize]),
    /// Picture and sound do not see each other.
    Streams,
}

/// What one call of the network sees.
pub struct Ltx2Input<'a> {
    /// (batch, tokens, channels), frame by frame and row by row.
    pub video: &'a Tensor,
    /// (batch, tokens, channels)
    pub audio: &'a Tensor,
    /// From [`Ltx2Denoiser::prepare_context`], of the same batch.
    pub context: &'a Ltx2Context,
    /// From [`Ltx2Denoiser::embed_time`].
    pub time: &'a Ltx2Time,
    /// From [`Ltx2Denoiser::positions`].
    pub positions: &'a Ltx2Positions,
    /// What it does not see.
    pub blindness: Ltx2Blindness<'a>,
}

/// The network.
#[derive(Debug)]
pub struct Ltx2Denoiser {
    config: LtxConfig,
    audio_config: LtxAudioConfig,
    video: Stream,
    audio: Stream,
    blocks: Vec<Block>,
    dtype: DType,
}

/// What one stream has outside of the blocks.
#[derive(Debug)]
struct Stream {
    input: Linear,
    /// Of the text: 2.0.
    text: Option<[Linear; 2]>,
    time: TimeModulation,
    cross: TimeModulation,
    gate: TimeModulation,
    /// 2.3
    prompt: Option<TimeModulation>,
    /// (2, hidden), f32: shift and scale before the last layer.
    table: Tensor,
    out: Linear,
}

/// How the parts of a stream are called.
struct Names {
    prefix: &'static str,
    cross: &'static str,
    gate: &'static str,
}

const VIDEO: Names = Names {
    prefix: "",
    cross: "av_cross_attn_video_scale_shift",
    gate: "av_cross_attn_video_a2v_gate",
};
const AUDIO: Names = Names {
    prefix: "audio_",
    cross: "av_cross_attn_audio_scale_shift",
    gate: "av_cross_attn_audio_v2a_gate",
};

/// Sizes of a stream.
#[derive(Clone, Copy)]
struct Sizes {
    channels: usize,
    heads: HeadSizes,
    text: usize,
    is_modulated: bool,
}

impl Sizes {
    fn hidden(&self) -> usize {
        self.heads.heads * self.heads.size
    }

    /// Rows of modulation of a block.
    fn parts(&self) -> usize {
        if self.is_modulated { 9 } else { 6 }
    }
}

impl Stream {
    fn load(
        weights: &Weights,
        names: &Names,
        sizes: Sizes,
        captions: Option<usize>,
    ) -> Result<Self> {
        let hidden = sizes.hidden();
        let at = |name: &str| weights.at(format!("{}{name}", names.prefix));
        let text = captions
            .map(|captions| -> Result<_> {
                let text = at("caption_projection");
                Ok([
                    Linear::load(&text.at("linear_1"), captions, hidden)?,
                    Linear::load(&text.at("linear_2"), hidden, hidden)?,
                ])
            })
            .transpose()?;
        let prompt = sizes
            .is_modulated
            .then(|| TimeModulation::load(&at("prompt_adaln"), hidden, 2))
            .transpose()?;
        let table = format!("{}scale_shift_table", names.prefix);
        Ok(Self {
            input: Linear::load(&at("proj_in"), sizes.channels, hidden)?,
            text,
            time: TimeModulation::load(&at("time_embed"), hidden, sizes.parts())?,
            cross: TimeModulation::load(&weights.at(names.cross), hidden, 4)?,
            gate: TimeModulation::load(&weights.at(names.gate), hidden, 1)?,
            prompt,
            table: weights.get_f32(&table, &[2, hidden])?,
            out: Linear::load(&at("proj_out"), hidden, sizes.channels)?,
        })
    }

    fn embed_text(&self, text: &Tensor, dtype: DType) -> Result<Tensor> {
        let text = text.to_dtype(dtype)?;
        match &self.text {
            Some([first, second]) => {
                second.forward(&Activation::GeluTanh.forward(&first.forward(&text)?)?)
            }
            None => Ok(text),
        }
    }

    /// `own`: times of the stream's tokens; `other`: what attention to the other stream goes by,
    /// where that is not the same; `prompt`: the time of the text.
    fn embed_time(
        &self,
        own: &[f32],
        other: Option<f32>,
        prompt: f32,
        gate_scale: f32,
        device: &Device,
    ) -> Result<StreamTime> {
        let (distinct, frames) = distinct_times(own);
        let (modulation, embedding) = self.time.forward(&distinct, device)?;
        let times = other.map_or_else(|| distinct.clone(), |time| vec![time]);
        let gates: Vec<f32> = times.iter().map(|time| time * gate_scale).collect();
        let cross = [
            self.cross.forward(&times, device)?.0,
            self.gate.forward(&gates, device)?.0,
        ];
        let prompt = match &self.prompt {
            Some(layers) => Some(layers.forward(&[prompt], device)?.0),
            None => None,
        };
        Ok(StreamTime {
            modulation,
            embedding,
            cross,
            has_own_cross: other.is_none(),
            prompt,
            frames: (distinct.len() > 1).then_some(frames),
        })
    }

    fn finish(&self, x: &Tensor, time: &StreamTime, batch: usize) -> Result<Tensor> {
        let rows = self.table.unsqueeze(0)?.broadcast_add(&time.embedding)?;
        let rows = Modulation::new(rows, time.frames.as_deref(), batch)?;
        self.out.forward(&rows.layer_norm(x, 0, 1, EPS)?)
    }
}

impl Ltx2Denoiser {
    /// Reads every weight. `on_load` is told the share of the blocks that is done, 0 to 1.
    pub fn load(
        weights: &Weights,
        config: &LtxConfig,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let Some(audio) = config.audio.clone() else {
            return Err(Error::bad_weights(
                weights.path(),
                "it makes no sound, which is LTX-Video",
            ));
        };
        let sizes = |channels: usize, heads: usize, size: usize, text: usize| Sizes {
            channels,
            heads: HeadSizes {
                heads,
                size,
                eps: EPS,
                is_gated: audio.is_gated,
            },
            text,
            is_modulated: audio.is_modulated,
        };
        let video_sizes = sizes(
            config.in_channels,
            config.heads,
            config.head_dim,
            config.cross_attention_dim,
        );
        let audio_sizes = sizes(
            audio.in_channels,
            audio.heads,
            audio.head_dim,
            audio.cross_attention_dim,
        );
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let weights = weights.at("transformer_blocks").at(i);
            blocks.push(Block::load(&weights, video_sizes, audio_sizes)?);
            on_load((i + 1) as f32 / config.layers as f32);
        }
        let captions = config.caption_channels;
        Ok(Self {
            video: Stream::load(weights, &VIDEO, video_sizes, captions)?,
            audio: Stream::load(weights, &AUDIO, audio_sizes, captions)?,
            blocks,
            dtype: weights.dtype(),
            config: config.clone(),
            audio_config: audio,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &LtxConfig {
        &self.config
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let mut layers: Vec<&mut dyn Adaptable> = Vec::new();
        for stream in [&mut self.video, &mut self.audio] {
            layers.extend(
                [&mut stream.input, &mut stream.out].map(|layer| layer as &mut dyn Adaptable),
            );
            for layer in stream.text.iter_mut().flatten() {
                layers.push(layer);
            }
            let times = [&mut stream.time, &mut stream.cross, &mut stream.gate];
            for time in times.into_iter().chain(&mut stream.prompt) {
                layers.extend(time.adaptables());
            }
        }
        for block in &mut self.blocks {
            for half in [&mut block.video, &mut block.audio] {
                layers.extend(half.own.adaptables());
                layers.extend(half.text.adaptables());
                layers.extend(half.cross.adaptables());
                layers.push(&mut half.mlp_in);
                layers.push(&mut half.mlp_out);
            }
        }
        layers
    }

    /// The positions of so many latent frames, rows and columns, and of so many tokens of sound: in
    /// the middle of what each stands for.
    pub fn positions(
        &self,
        [frames, rows, columns]: [usize; 3],
        frame_rate: f64,
        audio_tokens: usize,
        device: &Device,
    ) -> Result<Ltx2Positions> {
        // The first latent frame stands for one frame only, as the first token of sound does.
        let begin = |i: usize, step: f32| (i as f32 * step + 1.0 - step).max(0.0);
        let rate = frame_rate as f32;
        let second = |frame: usize| {
            let ends = [frame, frame + 1].map(|i| begin(i, FRAMES_OF_LATENT) / rate);
            (ends[0] + ends[1]) / 2.0 / SECONDS
        };
        let place = |i: usize| {
            let ends = [i, i + 1].map(|i| i as f32 * PIXELS_OF_LATENT);
            (ends[0] + ends[1]) / 2.0 / PIXELS
        };
        let mut video = Vec::with_capacity(frames * rows * columns);
        for frame in 0..frames {
            for row in 0..rows {
                video.extend((0..columns).map(|column| [second(frame), place(row), place(column)]));
            }
        }
        let in_time: Vec<[f32; 1]> = video.iter().map(|[second, ..]| [*second]).collect();
        let audio = &self.audio_config;
        let (step, hop, samples) = (
            audio.scale as f32,
            audio.hop as f32,
            audio.sample_rate as f32,
        );
        let sound: Vec<[f32; 1]> = (0..audio_tokens)
            .map(|i| {
                let ends = [i, i + 1].map(|i| begin(i, step) * hop / samples);
                [(ends[0] + ends[1]) / 2.0 / SECONDS]
            })
            .collect();
        let rope = self.config.rope;
        let precision = match rope.is_double {
            true => Precision::Double,
            false => Precision::Single,
        };
        let pairs = match rope.is_split {
            true => Pairs::Halves,
            false => Pairs::Neighbours,
        };
        let sound_width = audio.hidden();
        let line =
            |shares: &[[f32; 1]]| rope_of_shares(shares, sound_width, precision, pairs, device);
        Ok(Ltx2Positions {
            video: rope_of_shares(&video, self.config.hidden(), precision, pairs, device)?,
            audio: line(&sound)?,
            video_cross: line(&in_time)?,
            audio_cross: line(&sound)?,
        })
    }

    /// What the blocks see of one text of each row, all of one length.
    pub fn prepare_context(&self, texts: &[&Ltx2Text]) -> Result<Ltx2Context> {
        let Some(first) = texts.first() else {
            bail_shape!("a context without a text");
        };
        let device = first.video.device().clone();
        on_workers(&device, || {
            let join = |pick: fn(&Ltx2Text) -> &Tensor, stream: &Stream| -> Result<Tensor> {
                let rows: Vec<&Tensor> = texts.iter().map(|text| pick(text)).collect();
                stream.embed_text(&Tensor::cat(&rows, 0)?, self.dtype)
            };
            let video = join(|text| &text.video, &self.video)?;
            let audio = join(|text| &text.audio, &self.audio)?;
            let texts = match self.audio_config.is_modulated {
                true => Texts::Plain([video, audio]),
                false => Texts::Ready(
                    self.blocks
                        .iter()
                        .map(|block| {
                            Ok([
                                block.video.text.prepare(&video, None)?,
                                block.audio.text.prepare(&audio, None)?,
                            ])
                        })
                        .collect::<Result<_>>()?,
                ),
            };
            Ok(Ltx2Context { texts })
        })
    }

    /// The modulations of a step. `video`: 0 to 1000, one for the clip or one for each of its frames
    /// of tokens; `audio`: of the sound, which is the step's time too. With `is_crossed` attention
    /// between the streams goes by the step's time (2.3) instead of each stream's own (2.0).
    pub fn embed_time(
        &self,
        video: &[f32],
        audio: f32,
        is_crossed: bool,
        device: &Device,
    ) -> Result<Ltx2Time> {
        let other = is_crossed.then_some(audio);
        let gate_scale = self.audio_config.gate_time_scale as f32;
        on_workers(device, || {
            Ok(Ltx2Time {
                video: self
                    .video
                    .embed_time(video, other, audio, gate_scale, device)?,
                audio: self
                    .audio
                    .embed_time(&[audio], other, audio, gate_scale, device)?,
            })
        })
    }

    /// The predicted velocities of picture and sound, (batch, tokens, channels) each.
    pub fn forward(&self, input: &Ltx2Input) -> Result<(Tensor, Tensor)> {
        self.forward_reusing(input, None)
    }

    /// The same, with what the blocks behind the first one add to both streams taken from an earlier
    /// step where that is as good for both.
    pub fn forward_reusing(
        &self,
        input: &Ltx2Input,
        cache: Option<&mut StepCache>,
    ) -> Result<(Tensor, Tensor)> {
        on_workers(input.video.device(), || self.predict(input, cache))
    }

    fn predict(
        &self,
        input: &Ltx2Input,
        cache: Option<&mut StepCache>,
    ) -> Result<(Tensor, Tensor)> {
        let (batch, tokens, _) = input.video.dims3()?;
        let groups = input.time.video.frames.as_deref();
        let is_ready = match &input.context.texts {
            Texts::Ready(blocks) => blocks.len() == self.blocks.len(),
            Texts::Plain(_) => true,
        };
        if !is_ready
            || input.audio.dim(0)? != batch
            || groups.is_some_and(|frames| !tokens.is_multiple_of(frames.len()))
        {
            bail_shape!(
                "a picture of {:?} and a sound of {:?}",
                input.video.dims(),
                input.audio.dims()
            );
        }
        let mut video = self.video.input.forward(input.video)?;
        let mut audio = self.audio.input.forward(input.audio)?;
        let before = cache.is_some().then(|| [video.clone(), audio.clone()]);
        let mut blocks = self.blocks.iter().enumerate();
        if let Some((i, block)) = blocks.next() {
            (video, audio) = block.forward(i, video, audio, input)?;
        }
        let mut rest = |[video, audio]: [Tensor; 2]| {
            let both = blocks.try_fold((video, audio), |(video, audio), (i, block)| {
                block.forward(i, video, audio, input)
            });
            both.map(<[Tensor; 2]>::from)
        };
        let after = [video, audio];
        let [video, audio] = match (cache, &before) {
            (Some(cache), Some([video, audio])) => {
                cache.run_streams([video, audio], after, rest)?
            }
            _ => rest(after)?,
        };
        Ok((
            self.video.finish(&video, &input.time.video, batch)?,
            self.audio.finish(&audio, &input.time.audio, batch)?,
        ))
    }
}

/// One stream's share of a block.
#[derive(Debug)]
struct Half {
    /// (6 or 9, hidden), f32: shift, scale and gate of attention, of the feed-forward layer, and in
    /// 2.3 of attention to the text.
    table: Tensor,
    own: NormedSelfAttention,
    text: NormedCrossAttention,
    /// (2, hidden), f32: shift and scale of the text in 2.3.
    prompt_table: Option<Tensor>,
    /// Without weights, for what is not modulated.
    norm: RmsNorm,
    /// To the other stream.
    cross: NormedCrossAttention,
    /// (5, hidden), f32: scale and shift towards the picture, towards the sound, and the gate.
    cross_table: Tensor,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Half {
    fn load(
        weights: &Weights,
        prefix: &str,
        (cross, cross_table): (&str, &str),
        own: Sizes,
        (other, cross_heads): (Sizes, HeadSizes),
    ) -> Result<Self> {
        let at = |name: &str| weights.at(format!("{prefix}{name}"));
        let hidden = own.hidden();
        let table =
            |name: &str, rows: usize| weights.get_f32(&format!("{prefix}{name}"), &[rows, hidden]);
        let prompt_table = own
            .is_modulated
            .then(|| table("prompt_scale_shift_table", 2))
            .transpose()?;
        Ok(Self {
            table: table("scale_shift_table", own.parts())?,
            own: NormedSelfAttention::load(&at("attn1"), hidden, own.heads)?,
            text: NormedCrossAttention::load(&at("attn2"), hidden, own.text, own.heads)?,
            prompt_table,
            norm: RmsNorm::plain(hidden, EPS, weights.device())?,
            cross: NormedCrossAttention::load(
                &weights.at(cross),
                hidden,
                other.hidden(),
                cross_heads,
            )?,
            cross_table: weights.get_f32(cross_table, &[5, hidden])?,
            mlp_in: Linear::load(&at("ff.net.0.proj"), hidden, 4 * hidden)?,
            mlp_out: Linear::load(&at("ff.net.2"), 4 * hidden, hidden)?,
        })
    }

    fn modulation(&self, time: &StreamTime, batch: usize) -> Result<Modulation> {
        let rows = self.table.unsqueeze(0)?.broadcast_add(&time.modulation)?;
        Modulation::new(rows, time.frames.as_deref(), batch)
    }

    /// Of attention between the streams: scales and shifts, and the gate as the fifth row.
    fn cross_modulation(&self, time: &StreamTime, batch: usize) -> Result<Modulation> {
        let rows = Tensor::cat(&[&time.cross[0], &time.cross[1]], 1)?;
        let rows = self.cross_table.unsqueeze(0)?.broadcast_add(&rows)?;
        let groups = time.frames.as_deref().filter(|_| time.has_own_cross);
        Modulation::new(rows, groups, batch)
    }

    /// Attention to itself and to the text.
    fn attend(
        &self,
        x: Tensor,
        modulation: &Modulation,
        (rope, is_blind): (&Rope, bool),
        text: &TextOf,
        time: &StreamTime,
    ) -> Result<Tensor> {
        let normal = modulation.rms_norm(&x, 0, 1, EPS)?;
        let seen = match is_blind {
            true => self.own.forward_blind(&normal)?,
            false => self.own.forward(&normal, rope)?,
        };
        let x = modulation.add(&x, 2, &seen)?;
        match text {
            TextOf::Ready(text) => {
                let seen = self
                    .text
                    .forward(&self.norm.forward(&x)?, text, None, None)?;
                Ok((x + seen)?)
            }
            TextOf::Plain(text) => {
                let (Some(table), Some(prompt)) = (&self.prompt_table, &time.prompt) else {
                    bail_shape!("a text that is not told the time");
                };
                let rows = table.unsqueeze(0)?.broadcast_add(prompt)?;
                let rows = Modulation::new(rows, None, text.dim(0)?)?;
                let text = self
                    .text
                    .prepare(&rows.scale_and_shift(text, 0, 1)?, None)?;
                let normal = modulation.rms_norm(&x, 6, 7, EPS)?;
                let seen = self.text.forward(&normal, &text, None, None)?;
                modulation.add(&x, 8, &seen)
            }
        }
    }

    fn feed_forward(&self, x: &Tensor, modulation: &Modulation) -> Result<Tensor> {
        let inner = self.mlp_in.forward(&modulation.rms_norm(x, 3, 4, EPS)?)?;
        let inner = Activation::GeluTanh.forward(&inner)?;
        modulation.add(x, 5, &self.mlp_out.forward(&inner)?)
    }
}

/// A text as a block takes it.
enum TextOf<'a> {
    Ready(&'a KeysAndValues),
    Plain(&'a Tensor),
}

#[derive(Debug)]
struct Block {
    video: Half,
    audio: Half,
}

impl Block {
    fn load(weights: &Weights, video: Sizes, audio: Sizes) -> Result<Self> {
        // Between the streams the sound's heads count on both sides.
        let heads = audio.heads;
        Ok(Self {
            video: Half::load(
                weights,
                "",
                (
                    "audio_to_video_attn",
                    "video_a2v_cross_attn_scale_shift_table",
                ),
                video,
                (audio, heads),
            )?,
            audio: Half::load(
                weights,
                "audio_",
                (
                    "video_to_audio_attn",
                    "audio_a2v_cross_attn_scale_shift_table",
                ),
                audio,
                (video, heads),
            )?,
        })
    }

    /// (batch, tokens, hidden) of picture and sound → the same shapes.
    fn forward(
        &self,
        place: usize,
        video: Tensor,
        audio: Tensor,
        input: &Ltx2Input,
    ) -> Result<(Tensor, Tensor)> {
        let batch = video.dim(0)?;
        let (time, positions) = (input.time, input.positions);
        let is_blind = match input.blindness {
            Ltx2Blindness::Tokens(blocks) => blocks.contains(&place),
            _ => false,
        };
        let texts = match &input.context.texts {
            Texts::Ready(blocks) => {
                let [video, audio] = &blocks[place];
                [TextOf::Ready(video), TextOf::Ready(audio)]
            }
            Texts::Plain([video, audio]) => [TextOf::Plain(video), TextOf::Plain(audio)],
        };
        let video_rows = self.video.modulation(&time.video, batch)?;
        let audio_rows = self.audio.modulation(&time.audio, batch)?;
        let mut video = self.video.attend(
            video,
            &video_rows,
            (&positions.video, is_blind),
            &texts[0],
            &time.video,
        )?;
        let mut audio = self.audio.attend(
            audio,
            &audio_rows,
            (&positions.audio, is_blind),
            &texts[1],
            &time.audio,
        )?;
        if input.blindness != Ltx2Blindness::Streams {
            let pictures = self.video.cross_modulation(&time.video, batch)?;
            let sounds = self.audio.cross_modulation(&time.audio, batch)?;
            let (places, moments) = (&positions.video_cross, &positions.audio_cross);
            // Both see the other as it was before.
            let to_video = {
                let seen = sounds.rms_norm(&audio, 1, 0, EPS)?;
                let seen = self.video.cross.prepare(&seen, Some(moments))?;
                let x = pictures.rms_norm(&video, 1, 0, EPS)?;
                self.video.cross.forward(&x, &seen, Some(places), None)?
            };
            let to_audio = {
                let seen = pictures.rms_norm(&video, 3, 2, EPS)?;
                let seen = self.audio.cross.prepare(&seen, Some(places))?;
                let x = sounds.rms_norm(&audio, 3, 2, EPS)?;
                self.audio.cross.forward(&x, &seen, Some(moments), None)?
            };
            video = pictures.add(&video, 4, &to_video)?;
            audio = sounds.add(&audio, 4, &to_audio)?;
        }
        Ok((
            self.video.feed_forward(&video, &video_rows)?,
            self.audio.feed_forward(&audio, &audio_rows)?,
        ))
    }
}
