//! CRC-32 as ZIP has it (IEEE 802.3, reflected), eight bytes a step. It finds accidents only; digests find the rest.

/// Tables for eight bytes at once.
const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut level = 1;
    while level < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[level - 1][byte];
            tables[level][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        level += 1;
    }
    tables
}

/// A running checksum.
#[derive(Clone, Copy, Debug)]
pub struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Crc(u32::MAX)
    }
}

impl Crc {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> u32 {
        let mut crc = Crc::default();
        crc.add(bytes);
        crc.value()
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        let mut steps = bytes.chunks_exact(8);
        for step in steps.by_ref() {
            let [a, b, c, d, e, f, g, h] = *step else { continue };
            let low = crc ^ u32::from_le_bytes([a, b, c, d]);
            let [i, j, k, l] = low.to_le_bytes();
            crc = TABLES[7][usize::from(i)]
                ^ TABLES[6][usize::from(j)]
                ^ TABLES[5][usize::from(k)]
                ^ TABLES[4][usize::from(l)]
                ^ TABLES[3][usize::from(e)]
                ^ TABLES[2][usize::from(f)]
                ^ TABLES[1][usize::from(g)]
                ^ TABLES[0][usize::from(h)];
        }
        for byte in steps.remainder() {
            let index = (crc ^ u32::from(*byte)) & 0xff;
            crc = (crc >> 8) ^ TABLES[0][index as usize];
        }
        self.0 = crc;
    }

    /// The checksum so far.
    pub fn value(self) -> u32 {
        !self.0
    }
}
