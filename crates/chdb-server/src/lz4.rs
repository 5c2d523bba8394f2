//! ClickHouse's compressed blocks, as `decompress=1` announces them: checksum, method, two lengths, LZ4 data.

use anyhow::{Context as _, Result, bail, ensure};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;
const NONE: u8 = 0x02;
/// The real server refuses larger blocks, too.
const MAX_BLOCK: usize = 1 << 30;

/// Decompresses a whole body.
pub fn decompress(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    while !body.is_empty() {
        let (checksum, rest) = body.split_at_checked(CHECKSUM).context("a block's checksum is cut off")?;
        let header = rest.get(..HEADER).context("a block's header is cut off")?;
        let (method, compressed, original) = (header[0], length(&header[1..5])?, length(&header[5..9])?);
        ensure!(original <= MAX_BLOCK, "a block of {original} bytes is too large");
        ensure!(compressed >= HEADER, "a block's length is too small");
        let (block, after) = rest.split_at_checked(compressed).context("a block is cut off")?;
        ensure!(checksum == checksum_of(block), "a block's checksum is wrong");
        let data = &block[HEADER..];
        match method {
            LZ4 => plain.extend(lz4_flex::block::decompress(data, original).context("a block is not LZ4")?),
            NONE => plain.extend_from_slice(data),
            other => bail!("compression method {other:#x} is not known"),
        }
        body = after;
    }
    Ok(plain)
}

fn length(bytes: &[u8]) -> Result<usize> {
    Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
}

/// CityHash 1.0.2 with its halves exchanged, as ClickHouse stores it.
fn checksum_of(block: &[u8]) -> [u8; CHECKSUM] {
    cityhash_rs::cityhash_102_128(block).rotate_left(64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compress(plain: &[u8]) -> Vec<u8> {
        let data = lz4_flex::block::compress(plain);
        let mut block = vec![LZ4];
        block.extend(u32::try_from(data.len() + HEADER).unwrap().to_le_bytes());
        block.extend(u32::try_from(plain.len()).unwrap().to_le_bytes());
        block.extend(data);
        let mut body = checksum_of(&block).to_vec();
        body.extend(block);
        body
    }

    #[test]
    fn blocks_of_a_body_are_joined() {
        let body = [compress(b"hello "), compress(b"world")].concat();
        assert_eq!(decompress(&body).unwrap(), b"hello world");
    }

    #[test]
    fn block_of_the_official_client_is_read() {
        // From the compression test of the `clickhouse` crate 0.15.3.
        let body = [
            245, 5, 222, 235, 225, 158, 59, 108, 225, 31, 65, 215, 66, 66, 36, 92, 130, 34, 0, 0, 0, 23, 0, 0, 0, 240,
            8, 1, 0, 2, 255, 255, 255, 255, 0, 1, 1, 1, 115, 6, 83, 116, 114, 105, 110, 103, 3, 97, 98, 99,
        ];
        assert!(decompress(&body).unwrap().ends_with(b"String\x03abc"));
    }

    #[test]
    fn changed_or_short_block_is_refused() {
        let mut body = compress(b"hello");
        assert!(decompress(&body[..body.len() - 1]).is_err());
        *body.last_mut().unwrap() ^= 1;
        assert!(decompress(&body).is_err());
    }
}
