//! Builds the emulated kernels and runs launches.

use std::{
    collections::{BTreeMap, HashMap, hash_map::DefaultHasher},
    env, fs,
    hash::{Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use kinora_diffusion::layers::Launch;

/// Which of several threads runs first, and when asynchronous copies land (emulator/machine.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forwards,
    Backwards,
    /// By this seed.
    Shuffled(u32),
}

impl Order {
    pub const ALL: [Self; 3] = [Self::Forwards, Self::Backwards, Self::Shuffled(1)];

    fn words(self) -> [u32; 2] {
        match self {
            Self::Forwards => [0, 0],
            Self::Backwards => [1, 0],
            Self::Shuffled(seed) => [2, seed],
        }
    }
}

/// What a kernel gets.
#[derive(Clone, Debug)]
pub enum Argument {
    /// Memory behind a pointer.
    Buffer(Vec<u8>),
    /// The bytes of a number, a struct or a null pointer.
    Scalar(Vec<u8>),
}

impl Argument {
    /// The numbers of a tensor, one after another.
    pub fn tensor(tensor: &Tensor) -> Self {
        let flat = tensor.flatten_all().unwrap();
        Self::Buffer(match tensor.dtype() {
            DType::F32 => bytes(&flat.to_vec1::<f32>().unwrap(), |x| x.to_le_bytes()),
            DType::BF16 => bytes(&flat.to_vec1::<bf16>().unwrap(), |x| x.to_le_bytes()),
            DType::F16 => bytes(&flat.to_vec1::<f16>().unwrap(), |x| x.to_le_bytes()),
            other => panic!("no kernel takes {other:?}"),
        })
    }

    /// Room for a result, full of NaN.
    pub fn room(numbers: usize, dtype: DType) -> Self {
        Self::Buffer(vec![0xff; numbers * dtype.size_in_bytes()])
    }

    /// The bytes of a number or struct.
    pub fn scalars(bytes: impl AsRef<[u8]>) -> Self {
        Self::Scalar(bytes.as_ref().to_vec())
    }
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| of(*number)).collect()
}

/// A buffer that came back as an f32 tensor.
pub fn numbers(buffer: &[u8], dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::from_raw_buffer(buffer, dtype, shape, &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

/// A kernel file, compiled.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// `kernels/NAME.cu`; built when its sources have changed.
    pub fn of(name: &'static str) -> Self {
        /// A program for each name, built by whoever asks first.
        type Built = HashMap<&'static str, Arc<OnceLock<Program>>>;
        static BUILT: OnceLock<Mutex<Built>> = OnceLock::new();
        // Tests of other files go on while one is being built.
        let cell = Arc::clone(
            BUILT
                .get_or_init(Mutex::default)
                .lock()
                .unwrap()
                .entry(name)
                .or_default(),
        );
        cell.get_or_init(|| build(name)).clone()
    }

    /// Runs a launch; the buffers as the kernel left them, or what it did wrong.
    pub fn run(
        &self,
        launch: &Launch,
        arguments: &[Argument],
        order: Order,
    ) -> Result<Vec<Vec<u8>>, String> {
        let mut request = Vec::new();
        request.extend((launch.kernel.len() as u32).to_le_bytes());
        request.extend(launch.kernel.as_bytes());
        let words = [launch.grid, launch.block]
            .concat()
            .into_iter()
            .chain([launch.shared_bytes]);
        for word in words.chain(order.words()).chain([arguments.len() as u32]) {
            request.extend(word.to_le_bytes());
        }
        let mut lengths = Vec::new();
        for argument in arguments {
            let (is_buffer, bytes) = match argument {
                Argument::Buffer(bytes) => (1u32, bytes.as_slice()),
                Argument::Scalar(bytes) => (0, bytes.as_slice()),
            };
            request.extend(is_buffer.to_le_bytes());
            request.extend((bytes.len() as u64).to_le_bytes());
            request.extend(bytes);
            if is_buffer == 1 {
                lengths.push(bytes.len());
            }
        }
        let mut child = Command::new(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        // It reads everything before it writes anything. One that refuses early closes the pipe, and
        // says why below.
        let mut input = child.stdin.take().expect("a pipe was asked for");
        drop(input.write_all(&request));
        drop(input);
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(format!("{}: {message} ({})", launch.kernel, output.status));
        }
        let mut rest = output.stdout.as_slice();
        assert_eq!(rest.len(), lengths.iter().sum::<usize>());
        Ok(lengths
            .into_iter()
            .map(|length| {
                rest.split_off(..length)
                    .expect("lengths were compared")
                    .to_vec()
            })
            .collect())
    }
}

/// The files below a folder with their contents.
fn sources(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

fn build(name: &str) -> Program {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    // Headers change all programs; other kernel files do not.
    let mut files = BTreeMap::new();
    sources(&kernels, &mut files);
    let source = kernels.join(format!("{name}.cu"));
    files.retain(|path, _| {
        *path == source
            || path
                .extension()
                .is_none_or(|kind| kind != "cu" && kind != "md")
    });
    let mut hasher = DefaultHasher::new();
    (&files, &compiler).hash(&mut hasher);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let stem = name.replace('/', "-");
    let program = folder.join(format!("{stem}-{:016x}", hasher.finish()));
    if program.exists() {
        return Program(program);
    }
    let fresh = folder.join(format!("{stem}-{}", std::process::id()));
    let compile = |more: &[&str]| {
        Command::new(&compiler)
            .args(["-std=c++17", "-O2"])
            .args(more)
            .arg("-o")
            .arg(&fresh)
            .arg(kernels.join("emulator/machine.cpp"))
            .args(["-x", "c++"])
            .arg(&source)
            .output()
            .unwrap_or_else(|error| {
                panic!("the kernels' tests need a C++ compiler ({compiler}): {error}")
            })
    };
    // Variables that are used before they are set then hold something that shows. Compilers without
    // that option (before GCC 12) still test everything else.
    let mut output = compile(&["-ftrivial-auto-var-init=pattern"]);
    if !output.status.success() {
        output = compile(&[]);
    }
    assert!(
        output.status.success(),
        "{name}.cu: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&fresh, &program).unwrap();
    Program(program)
}
