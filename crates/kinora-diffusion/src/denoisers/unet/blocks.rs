//! What the UNet is built of: residual blocks with the time, transformers over the pixels with the
//! text, levels of one resolution. How they are read is in `load`.

use candle_core::Tensor;

use crate::{
    Error, Result,
    layers::{
        Activation, Adaptable, Attention, Conv2d, Enlarging, GroupNorm, LayerNorm, Linear,
        activation::gated_halves, add_tokens, attention, norm::After, normalize_to_tokens,
    },
};

/// The time as all residual blocks take it, side by side: (batch, sum of their widths).
pub(super) struct Times<'a>(pub &'a Tensor);

/// Keys and values of the text, one attention after the other.
pub(super) struct Keys<'a>(pub std::slice::Iter<'a, Tensor>);

impl<'a> Keys<'a> {
    fn take(&mut self) -> Result<&'a Tensor> {
        let missing = || Error::Shape("the text was prepared by another network".to_owned());
        self.0.next().ok_or_else(missing)
    }
}

/// conv(silu(norm(conv(silu(norm(x))) + time))) + x, with a 1×1 convolution of x where widths differ.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    pub norm1: GroupNorm,
    pub conv1: Conv2d,
    /// Where its part of the time begins, and how wide it is.
    pub time: (usize, usize),
    pub norm2: GroupNorm,
    pub conv2: Conv2d,
    pub shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    fn forward(&self, x: &Tensor, times: &Times) -> Result<Tensor> {
        let time = times.0.narrow(1, self.time.0, self.time.1)?;
        let inner = self.norm1.forward(x, After::Silu)?;
        let inner = self.conv1.forward_shifted(&inner, &time)?;
        let inner = self.norm2.forward(&inner, After::Silu)?;
        match &self.shortcut {
            Some(shortcut) => self.conv2.forward_add(&inner, &shortcut.forward(x)?),
            None => self.conv2.forward_add(&inner, x),
        }
    }
}

impl ResidualBlock {
    /// The layers that adapters may change.
    fn add_adaptables<'a>(&'a mut self, layers: &mut Vec<&'a mut dyn Adaptable>) {
        layers.extend([&mut self.norm1, &mut self.norm2].map(|norm| norm as &mut dyn Adaptable));
        let convs = [&mut self.conv1, &mut self.conv2].into_iter();
        layers.extend(
            convs
                .chain(&mut self.shortcut)
                .map(|conv| conv as &mut dyn Adaptable),
        );
    }
}

/// Attention over the pixels, attention over the text, a gated feed-forward layer, each added to
/// its input.
#[derive(Debug)]
pub(super) struct TransformerBlock {
    pub norm1: LayerNorm,
    pub qkv: Linear,
    pub out1: Linear,
    pub norm2: LayerNorm,
    pub query: Linear,
    /// Of the text.
    pub key_value: Linear,
    pub out2: Linear,
    pub norm3: LayerNorm,
    pub wide: Linear,
    pub narrow: Linear,
    pub heads: usize,
}

impl TransformerBlock {
    /// (batch, pixels, width) → the same shape. `keys`: of the text, (batch, tokens, 2 · width).
    fn forward(&self, x: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let (batch, pixels, width) = x.dims3()?;
        let size = width / self.heads;
        let (_, tokens, _) = keys.dims3()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let qkv = qkv.reshape((batch, pixels, 3 * self.heads, size))?;
        let part = |i: usize| qkv.narrow(2, i * self.heads, self.heads);
        let seen = attention(&part(0)?, &part(1)?, &part(2)?, Attention::default())?;
        let x = self
            .out1
            .forward_add(&seen.reshape((batch, pixels, width))?, x)?;
        let query = self.query.forward(&self.norm2.forward(&x)?)?;
        let query = query.reshape((batch, pixels, self.heads, size))?;
        let text = keys.reshape((batch, tokens, 2 * self.heads, size))?;
        let part = |i: usize| text.narrow(2, i * self.heads, self.heads);
        let read = attention(&query, &part(0)?, &part(1)?, Attention::default())?;
        let x = self
            .out2
            .forward_add(&read.reshape((batch, pixels, width))?, &x)?;
        let wide = self.wide.forward(&self.norm3.forward(&x)?)?;
        self.narrow
            .forward_add(&gated_halves(Activation::GeluErf, &wide)?, &x)
    }
}

/// Transformer blocks over the pixels of a picture, added to it.
#[derive(Debug)]
pub(super) struct PixelTransformer {
    pub norm: GroupNorm,
    pub project_in: Linear,
    pub blocks: Vec<TransformerBlock>,
    pub project_out: Linear,
}

impl PixelTransformer {
    /// The layers that adapters may change.
    fn add_adaptables<'a>(&'a mut self, layers: &mut Vec<&'a mut dyn Adaptable>) {
        layers.push(&mut self.norm);
        layers.extend(
            [&mut self.project_in, &mut self.project_out]
                .map(|linear| linear as &mut dyn Adaptable),
        );
        for block in &mut self.blocks {
            let norms = [&mut block.norm1, &mut block.norm2, &mut block.norm3];
            layers.extend(norms.map(|norm| norm as &mut dyn Adaptable));
            let linears = [
                &mut block.qkv,
                &mut block.out1,
                &mut block.query,
                &mut block.key_value,
                &mut block.out2,
                &mut block.wide,
                &mut block.narrow,
            ];
            layers.extend(linears.map(|linear| linear as &mut dyn Adaptable));
        }
    }

    fn prepare(&self, text: &Tensor, keys: &mut Vec<Tensor>) -> Result<()> {
        for block in &self.blocks {
            keys.push(block.key_value.forward(text)?);
        }
        Ok(())
    }

    fn forward(&self, x: &Tensor, keys: &mut Keys) -> Result<Tensor> {
        let mut tokens = self
            .project_in
            .forward(&normalize_to_tokens(&self.norm, x)?)?;
        for block in &self.blocks {
            tokens = block.forward(&tokens, keys.take()?)?;
        }
        add_tokens(x, &self.project_out.forward(&tokens)?)
    }
}

/// What ends a level.
#[derive(Debug)]
pub(super) enum Resize {
    /// The level keeps its size.
    Keep,
    /// 3×3 with a step of two.
    Halve(Conv2d),
    /// Enlarge to the nearest pixel, then 3×3.
    Double(Enlarging),
}

/// The blocks of one resolution on one side, then a change of resolution.
#[derive(Debug)]
pub(super) struct Level {
    pub blocks: Vec<(ResidualBlock, Option<PixelTransformer>)>,
    pub resize: Resize,
}

impl Level {
    /// The layers that adapters may change.
    pub fn add_adaptables<'a>(&'a mut self, layers: &mut Vec<&'a mut dyn Adaptable>) {
        for (block, transformer) in &mut self.blocks {
            block.add_adaptables(layers);
            if let Some(transformer) = transformer {
                transformer.add_adaptables(layers);
            }
        }
        match &mut self.resize {
            Resize::Keep => {}
            Resize::Halve(conv) => layers.push(conv),
            Resize::Double(conv) => layers.push(conv),
        }
    }

    pub fn prepare(&self, text: &Tensor, keys: &mut Vec<Tensor>) -> Result<()> {
        for (_, transformer) in &self.blocks {
            if let Some(transformer) = transformer {
                transformer.prepare(text, keys)?;
            }
        }
        Ok(())
    }

    /// Leaves every result for the way up.
    pub fn go_down(
        &self,
        mut x: Tensor,
        times: &Times,
        keys: &mut Keys,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (block, transformer) in &self.blocks {
            x = block.forward(&x, times)?;
            if let Some(transformer) = transformer {
                x = transformer.forward(&x, keys)?;
            }
            skips.push(x.clone());
        }
        if let Resize::Halve(conv) = &self.resize {
            x = conv.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }

    /// Takes what the way down left, last first.
    pub fn go_up(
        &self,
        mut x: Tensor,
        times: &Times,
        keys: &mut Keys,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let missing = || Error::Shape("the way down left too little for the way up".to_owned());
        for (block, transformer) in &self.blocks {
            let skip = skips.pop().ok_or_else(missing)?;
            x = block.forward(&Tensor::cat(&[x, skip], 1)?, times)?;
            if let Some(transformer) = transformer {
                x = transformer.forward(&x, keys)?;
            }
        }
        if let Resize::Double(conv) = &self.resize {
            let (_, _, height, width) = skips.last().ok_or_else(missing)?.dims4()?;
            x = conv.forward_to(&x, height, width)?;
        }
        Ok(x)
    }
}

/// Residual, transformer, residual at the lowest resolution.
#[derive(Debug)]
pub(super) struct Middle {
    pub first: ResidualBlock,
    pub transformer: PixelTransformer,
    pub last: ResidualBlock,
}

impl Middle {
    /// The layers that adapters may change.
    pub fn add_adaptables<'a>(&'a mut self, layers: &mut Vec<&'a mut dyn Adaptable>) {
        self.first.add_adaptables(layers);
        self.transformer.add_adaptables(layers);
        self.last.add_adaptables(layers);
    }

    pub fn prepare(&self, text: &Tensor, keys: &mut Vec<Tensor>) -> Result<()> {
        self.transformer.prepare(text, keys)
    }

    pub fn forward(&self, x: &Tensor, times: &Times, keys: &mut Keys) -> Result<Tensor> {
        let x = self.first.forward(x, times)?;
        let x = self.transformer.forward(&x, keys)?;
        self.last.forward(&x, times)
    }
}
