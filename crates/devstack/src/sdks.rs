//! The official SDKs of providers, for tests: they must work with the product as they are. Fetched once per machine, by
//! version; as with the emulators, pip checks the hashes that the registry publishes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{
    deps,
    npm::{self, Package},
    pip,
};

const PYTHON: &str = "openai==3.54.0 anthropic==2.12.0 annotated-types==0.8.0 anyio==4.16.0 docstring_parser==0.18.0 \
                      h11==0.16.0 httpcore2==2.16.2 httpx2==2.16.2 idna==3.20 jiter==0.19.0 opentelemetry-api==1.45.2 \
                      pydantic==2.14.3 pydantic_core==2.50.4 sniffio==1.3.1 truststore==0.10.5 typing-inspection==0.4.5 \
                      typing_extensions==4.16.0";
const NODE: &[Package] = &[
    package(
        "openai",
        "7.59.0",
        "sha512-wPYKJkLPFEdNJ2tThSg4jE1Ptsv4X3u8g8LIvu0Qz/UIhsKeCzl73rl48PtQsDVrJL/ku0liXOsbyd2TsRsPJw==",
    ),
    package(
        "@anthropic-ai/sdk",
        "1.14.0",
        "sha512-nADYXUd5fn9Zgw2nHi1iKyt/kb1UUt1cN3RbdxEI6XjTDTxbx4LLG4GnMrxWyS9GgXQllFOyAKSiFM3joDNK9A==",
    ),
    package(
        "@babel/runtime",
        "7.29.15",
        "sha512-304gsbbGVmQc+cNGHzwHBlqepYdWLKj3VXCQBGt/EGcV7PUPfKI7kAUNW1FZEOCwlQiLvQjg1JEaAlRQ616h+Q==",
    ),
    package(
        "@opentelemetry/api",
        "1.10.0",
        "sha512-lMkyes8iHrG+mk6WH7X70MdCLI2RS0FwNBY1PyQ8UemaijE2m5mv5A0Niy3HtbYTFrgkUEQjFMXmSAk2hQDuPQ==",
    ),
    package(
        "@stablelib/base64",
        "1.0.1",
        "sha512-1bnPQqSxSuc3Ii6MhBysoWCg58j97aUjuCSZrGSmDxNqtytIi0k8utUenAwTZN4V5mXXYGsVUI9zeBqy+jBOSQ==",
    ),
    package(
        "fast-sha256",
        "1.3.0",
        "sha512-n11RGP/lrWEFI/bWdygLxhI+pVeo1ZYIVwvvPkW7azl/rOy+F3HYRZ2K5zeE9mmkhQppyv9sQFx0JM9UabnpPQ==",
    ),
    package(
        "json-schema-to-ts",
        "3.1.1",
        "sha512-+DWg8jCJG2TEnpy7kOm/7/AxaYoaRbjVB4LFZLySZlWn8exGs3A4OLJR966cVvU26N7X9TWxl+Jsw7dzAqKT6g==",
    ),
    package(
        "standardwebhooks",
        "1.1.1",
        "sha512-bCbX9ZEyFkWPsRz7Bl3NuQUJohmwGSev/yhr7vhaGPlc4AfIrspIRa6cPTBuI1ItmrTDJ4d/S2hCsfe4+vQGnQ==",
    ),
    package(
        "ts-algebra",
        "2.0.0",
        "sha512-FPAhNPFMrkwz76P7cdjdmiShwMynZYN6SgOujD1urY4oNm80Ou9oMdmbR45LotcKOXoy7wSmHkRFE6Mxbrhefw==",
    ),
];
/// Written last.
const COMPLETE: &str = "complete";

const fn package(name: &'static str, version: &'static str, integrity: &'static str) -> Package {
    Package { name, version, integrity: Some(integrity) }
}

/// The installed SDKs.
#[derive(Debug, Clone)]
pub struct Sdks {
    folder: PathBuf,
}

impl Sdks {
    /// Finds them, and fetches them first when they aren't there.
    ///
    /// # Errors
    /// When Python with pip, or npm, are missing, or a registry can't be reached.
    pub fn install() -> Result<Self> {
        let mut hash = Sha256::new();
        hash.update(PYTHON);
        NODE.iter().for_each(|package| hash.update(format!("{} {}\n", package.name, package.version)));
        let version = hex::encode(&hash.finalize()[..6]);
        let folder = deps::cache()?.join(format!("polyphony-sdks-{version}"));
        let is_complete = || Ok(folder.join(COMPLETE).exists());
        deps::once(&folder, "SDKs of model providers", is_complete, |unfinished| {
            let list = PYTHON.replace(' ', "\n");
            pip::target(&list, &[], unfinished, "the SDKs openai and anthropic from PyPI (20 MB)")?;
            npm::ci(NODE, unfinished, "the SDKs openai and @anthropic-ai/sdk from npm (10 MB)")?;
            fs::write(unfinished.join(COMPLETE), "")?;
            Ok(())
        })?;
        Ok(Self { folder })
    }

    /// A script that can import them, in Python (`.py`) or for Node (`.mjs`).
    ///
    /// # Errors
    /// There is no Python, or the script is of another kind.
    pub fn script(&self, script: &Path) -> Result<Command> {
        match script.extension().and_then(|extension| extension.to_str()) {
            Some("py") => {
                let python = pip::python("the SDKs").context("a script of an SDK can't be run")?;
                let mut command = Command::new(python);
                command.arg(script).env("PYTHONPATH", self.folder.join("python"));
                Ok(command)
            }
            Some("mjs") => {
                let mut command = Command::new("node");
                // Node looks for modules beside the script only, so the script asks for them by this path.
                command.arg(script).env("SDKS", self.folder.join("node"));
                Ok(command)
            }
            _ => bail!("{} is neither Python nor a module for Node", script.display()),
        }
    }
}
