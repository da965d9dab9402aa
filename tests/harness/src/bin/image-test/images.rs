//! Images built of the parts `make image` left, with configurations of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodeseal_harness::{Context, Error, Finished, Result, checkout, program};
use serde_json::Value;

/// Where `make image` leaves what it built.
const BUILT: &str = "target/image";
/// The program in the image, below that.
const INIT: &str = "build/x86_64-unknown-linux-gnu/image/nodeseal-nitro";

/// An image file and its measurements, as the build printed them.
#[derive(Clone, Debug)]
pub struct Image {
    /// The EIF.
    pub path: PathBuf,
    /// Its measurements, in the shape of nitro-cli.
    pub measurements: PathBuf,
}

impl Image {
    /// PCR `index` in hexadecimal.
    pub fn pcr(&self, index: u8) -> Result<String> {
        let text = fs::read(&self.measurements).context(self.measurements.display())?;
        let value: Value = serde_json::from_slice(&text).context(self.measurements.display())?;
        let found = value.pointer(&format!("/Measurements/PCR{index}"));
        let missing = || Error::new(format!("no PCR{index} in {value}"));
        Ok(found
            .and_then(Value::as_str)
            .ok_or_else(missing)?
            .to_owned())
    }

    /// What `nodeseal-image measure` says of it.
    pub fn measured(&self) -> Result<Value> {
        let mut command = Command::new(program("nodeseal-image")?);
        let done = Finished::of(command.arg("measure").arg(&self.path))?;
        let done = done.success("nodeseal-image measure")?;
        serde_json::from_slice(&done.stdout).context("nodeseal-image measure")
    }

    /// Length of the file in bytes.
    pub fn bytes(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).context(self.path.display())?.len())
    }
}

/// What images are made of.
pub struct Images {
    directory: PathBuf,
    kernel: PathBuf,
    init: PathBuf,
}

impl Images {
    /// Finds the kernel and the program; images are written to `directory`.
    pub fn find(directory: &Path) -> Result<Self> {
        let build = checkout().join("enclave/image/kernel/build.sh");
        let done = Finished::of(&mut Command::new(build))?.success("kernel/build.sh")?;
        let kernel = done.text().lines().last().unwrap_or_default().into();
        let init = checkout().join(BUILT).join(INIT);
        if !init.is_file() {
            let missing = init.display();
            return Err(Error::new(format!(
                "{missing} is missing: run `make image`"
            )));
        }
        Ok(Self {
            directory: directory.to_owned(),
            kernel,
            init,
        })
    }

    /// The image `make image` built.
    pub fn released() -> Image {
        let at = checkout().join(BUILT);
        Image {
            path: at.join("nodeseal.eif"),
            measurements: at.join("measurements.json"),
        }
    }

    /// Length of the kernel and of the program in bytes.
    pub fn parts(&self) -> Result<(u64, u64)> {
        let length = |path: &Path| Ok(fs::metadata(path).context(path.display())?.len());
        Ok((length(&self.kernel)?, length(&self.init)?))
    }

    /// Builds the image `name` with this configuration, a directory, and further arguments.
    pub fn build(&self, name: &str, config: &Path, more: &[&str]) -> Result<Image> {
        self.build_with(name, &self.init, config, more)
    }

    /// Builds an image whose program differs in one byte that nothing ever looks at.
    pub fn build_other_program(&self, name: &str, config: &Path) -> Result<Image> {
        let mut program = fs::read(&self.init).context(self.init.display())?;
        program.push(0);
        let init = self.directory.join(format!("{name}-init"));
        fs::write(&init, program).context(init.display())?;
        self.build_with(name, &init, config, &[])
    }

    fn build_with(&self, name: &str, init: &Path, config: &Path, more: &[&str]) -> Result<Image> {
        let image = Image {
            path: self.directory.join(format!("{name}.eif")),
            measurements: self.directory.join(format!("{name}.json")),
        };
        let mut command = Command::new(program("nodeseal-image")?);
        command.args(["build", "--name", name]);
        for (option, path) in [
            ("--kernel", self.kernel.as_path()),
            ("--init", init),
            ("--config", config),
            ("--output", &image.path),
            ("--measurements", &image.measurements),
        ] {
            command.arg(option).arg(path);
        }
        Finished::of(command.args(more))?.success("nodeseal-image build")?;
        Ok(image)
    }
}
