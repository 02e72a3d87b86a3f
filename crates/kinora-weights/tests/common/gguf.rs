//! Writes GGUF headers by hand, correct or not.

/// Writes the parts of a header by hand.
#[derive(Default)]
pub struct Writer {
    values: Vec<u8>,
    value_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Writer {
    pub fn value(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        text(&mut self.values, key);
        self.values.extend(kind.to_le_bytes());
        self.values.extend(value);
        self.value_count += 1;
        self
    }

    pub fn tensor(mut self, name: &str, sizes: &[u64], format: u32, offset: u64) -> Self {
        text(&mut self.tensors, name);
        self.tensors.extend((sizes.len() as u32).to_le_bytes());
        sizes
            .iter()
            .for_each(|size| self.tensors.extend(size.to_le_bytes()));
        self.tensors.extend(format.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub fn finish(self, version: u32, data: usize) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(version.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.value_count.to_le_bytes());
        file.extend(self.values);
        file.extend(self.tensors);
        file.resize(file.len().next_multiple_of(32) + data, 7);
        file
    }
}

/// Name, sizes outermost first, number of the format, bytes.
pub type Stored = (String, Vec<usize>, u32, Vec<u8>);

/// A correct file.
pub fn encode(architecture: &str, tensors: &[Stored]) -> Vec<u8> {
    let mut value = Vec::new();
    text(&mut value, architecture);
    let mut writer = Writer::default().value("general.architecture", 8, &value);
    let mut data = Vec::new();
    for (name, shape, format, bytes) in tensors {
        data.resize(data.len().next_multiple_of(32), 0);
        let sizes: Vec<u64> = shape.iter().rev().map(|size| *size as u64).collect();
        writer = writer.tensor(name, &sizes, *format, data.len() as u64);
        data.extend(bytes);
    }
    let mut file = writer.finish(3, 0);
    file.extend(data);
    file
}
