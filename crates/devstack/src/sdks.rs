//! The official Python SDKs of providers, for tests: they must work with the product as they are. Fetched once per
//! machine, by version; as with the emulators, pip checks the hashes that the registry publishes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{deps, pip};

const SDKS: &str = "openai==3.54.0 anthropic==2.12.0 annotated-types==0.8.0 anyio==4.16.0 docstring_parser==0.18.0 \
                    h11==0.16.0 httpcore2==2.16.2 httpx2==2.16.2 idna==3.20 jiter==0.19.0 opentelemetry-api==1.45.2 \
                    pydantic==2.14.3 pydantic_core==2.50.4 sniffio==1.3.1 truststore==0.10.5 typing-inspection==0.4.5 \
                    typing_extensions==4.16.0";
/// Written last.
const COMPLETE: &str = "complete";

/// The installed SDKs.
#[derive(Debug, Clone)]
pub struct Sdks {
    folder: PathBuf,
}

impl Sdks {
    /// Finds them, and fetches them first when they aren't there.
    ///
    /// # Errors
    /// When Python with pip is missing, or a registry can't be reached.
    pub fn install() -> Result<Self> {
        let version = hex::encode(&Sha256::digest(SDKS)[..6]);
        let folder = deps::cache()?.join(format!("polyphony-sdks-{version}"));
        let is_complete = || Ok(folder.join(COMPLETE).exists());
        deps::once(&folder, "SDKs of model providers", is_complete, |unfinished| {
            pip::target(&SDKS.replace(' ', "\n"), &[], unfinished, "the SDKs openai and anthropic from PyPI (20 MB)")?;
            fs::write(unfinished.join(COMPLETE), "")?;
            Ok(())
        })?;
        Ok(Self { folder })
    }

    /// A script that can import them.
    ///
    /// # Errors
    /// There is no Python.
    pub fn script(&self, script: &Path) -> Result<Command> {
        let python = pip::python("the SDKs").context("a script of an SDK can't be run")?;
        let mut command = Command::new(python);
        command.arg(script).env("PYTHONPATH", self.folder.join("python"));
        Ok(command)
    }
}
