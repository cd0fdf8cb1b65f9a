//! Unicode caseless identity of path names: toNFKC_Casefold (Unicode Standard, section 3.13, D147).
//! Never used for a grant: only what a rule demands is widened by it.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use std::borrow::Cow;

/// The text after full case folding, compatibility composition and removal of default ignorable code points.
///
/// Two texts that people or file systems may take for one another have the same folded form:
/// `SRC`, `ｓｒｃ` and `s\u{200c}rc` all become `src`.
pub fn nfkc_casefold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        };
    }
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let folder = CaseMapper::new();
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let mut current = DecomposingNormalizerBorrowed::new_nfd()
        .normalize(text)
        .into_owned();
    // The property is the fixed point of these three steps; a second round settles every text but a few, which need a third.
    for _ in 0..8 {
        let folded = folder.fold_string(&current);
        let kept: String = folded.chars().filter(|c| !ignorable.contains(*c)).collect();
        let next = nfkc.normalize(&kept).into_owned();
        if next == current {
            break;
        }
        current = next;
    }
    Cow::Owned(current)
}
