//! Independent emulators of model providers, for tests: `llmock` and a real llama.cpp server from PyPI, `aimock` from npm.
//! Fetched once per machine, by version. Their dependencies differ by platform and Python, so that there is no one list of
//! hashes; pip checks those that the registry publishes.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{
    Guarded, Spec, deps,
    npm::{self, Package},
    pip, progress,
};

const LLMOCK: &str = "llmock==0.2.2 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 certifi==2026.10.18 click==8.5.1 \
                      fastapi==0.165.0 h11==0.16.0 httpcore==1.0.9 httpx==0.28.1 idna==3.20 markdown-it-py==4.3.0 \
                      mdurl==0.1.2 opentelemetry-api==1.45.2 pydantic==2.14.3 pydantic_core==2.50.4 Pygments==2.21.0 \
                      python-multipart==0.0.34 PyYAML==6.0.3 rich==15.0.0 shellingham==1.5.4 starlette==1.10.0 \
                      typer==0.29.2 typing-inspection==0.4.5 typing_extensions==4.16.0 uvicorn==0.54.0";
const LLAMACPP: &str = "xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6 requests==2.34.2 urllib3==2.8.0 \
                        charset-normalizer==3.5.2 certifi==2026.10.18 idna==3.20 tqdm==4.70.1 PyYAML==6.0.3";
const AIMOCK: Package = Package {
    name: "@copilotkit/aimock",
    version: "1.43.0",
    integrity: Some("sha512-V8D8cjSMtAR4rHaD2ulp3DR/ZguXQjDNOqwKDNvjb/OJL/KR1I0SDf5xpRCd+TYKjhmf9fM8Xpg3QBKPmV9Kmw=="),
};
const LLAMACPP_SERVER: &str = include_str!("llamacpp.py");
/// Says why there is no llama.cpp server on this platform.
const MISSING: &str = "llamacpp.missing";

/// The installed emulators.
#[derive(Debug, Clone)]
pub struct Emulators {
    folder: PathBuf,
}

impl Emulators {
    /// Finds them, and fetches them first when they aren't there.
    ///
    /// # Errors
    /// When Python 3.11 with pip, or npm, are missing, or a registry can't be reached.
    pub fn install() -> Result<Self> {
        let mut hash = Sha256::new();
        hash.update([LLMOCK, LLAMACPP, AIMOCK.version, LLAMACPP_SERVER].join("\n"));
        let version = hex::encode(&hash.finalize()[..6]);
        let folder = deps::cache()?.join(format!("polyphony-emulators-{version}"));
        let is_complete = || Ok(folder.join("llamacpp.py").exists());
        deps::once(&folder, "emulators of model providers", is_complete, |unfinished| {
            npm::ci(&[AIMOCK], unfinished, "the emulator aimock from npm (2 MB)")?;
            let lines = |list: &str| list.replace(' ', "\n");
            fs::create_dir_all(unfinished.join("llmock"))?;
            fs::create_dir_all(unfinished.join("llamacpp"))?;
            pip::target(&lines(LLMOCK), &[], &unfinished.join("llmock"), "the emulator llmock from PyPI (6 MB)")
                .context("the emulator llmock can't be installed: it needs Python 3.11 or newer")?;
            let what = "a llama.cpp server from PyPI (50 MB)";
            if let Err(error) = pip::target(&lines(LLAMACPP), &[], &unfinished.join("llamacpp"), what) {
                progress(format!("there is no llama.cpp server for this machine, its tests are left out: {error:#}"));
                fs::write(unfinished.join(MISSING), format!("{error:#}"))?;
            }
            fs::write(unfinished.join("llamacpp.py"), LLAMACPP_SERVER)?;
            Ok(())
        })?;
        Ok(Self { folder })
    }

    /// Starts `llmock`, which breaks what it's told to and grades its clients.
    ///
    /// # Errors
    /// It can't be started.
    pub fn llmock(&self, folder: &Path, port: u16) -> Result<Guarded> {
        let (run, port) = ("from llmock.cli import app; app()", port.to_string());
        // It streams at a human pace, so that it sees when a client stops reading.
        let arguments =
            ["-c", run, "serve", "--port", &port, "--log-level", "warning", "--stream-chunk-delay-ms", "20"];
        let arguments = arguments.map(OsString::from);
        self.python("llmock", &arguments, folder)
    }

    /// Starts `aimock`, which answers as the fixtures say and refuses everything else.
    ///
    /// # Errors
    /// It can't be started.
    pub fn aimock(&self, fixtures: &Path, folder: &Path, port: u16) -> Result<Guarded> {
        let mut spec = Spec::new("aimock", Path::new("node"), &folder.join("aimock.log"));
        let script = self.folder.join("node/node_modules/@copilotkit/aimock/dist/cli.js");
        spec.args =
            vec![script.into(), "--port".into(), port.to_string().into(), "--strict".into(), "--fixtures".into()];
        spec.args.push(fixtures.into());
        Guarded::spawn(&spec)
    }

    /// Starts a llama.cpp server with a tiny random model, `tiny`, whose window is 512 tokens; `None` where none is packed
    /// for this platform.
    ///
    /// # Errors
    /// It can't be started.
    pub fn llamacpp(&self, folder: &Path, port: u16) -> Result<Option<Guarded>> {
        if let Ok(why) = fs::read_to_string(self.folder.join(MISSING)) {
            progress(format!("there is no llama.cpp server for this machine: {why}"));
            return Ok(None);
        }
        let arguments = [self.folder.join("llamacpp.py").into(), port.to_string().into(), folder.into()];
        self.python("llamacpp", &arguments, folder).map(Some)
    }

    fn python(&self, name: &str, arguments: &[OsString], folder: &Path) -> Result<Guarded> {
        let mut spec = Spec::new(name, Path::new(pip::python(name)?), &folder.join(format!("{name}.log")));
        spec.args = arguments.to_vec();
        let packages = self.folder.join(name).join("python");
        let Some(packages) = packages.to_str() else { bail!("the cache's path is not UTF-8") };
        spec.envs.insert("PYTHONPATH".to_owned(), packages.to_owned());
        Guarded::spawn(&spec)
    }
}
