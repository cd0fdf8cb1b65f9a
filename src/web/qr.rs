//! QR codes (ISO/IEC 18004), drawn here so that a page needs no script and nothing from elsewhere to show one: as SVG, and in
//! characters for a terminal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, EcLevel, QrCode};
use std::fmt::Write;

/// Light modules around the code: below four, some readers do not find it.
const QUIET: usize = 4;

/// A text as a QR code, dark on light in any theme: an SVG document in a `data:` URL, for an `img`.
///
/// # Errors
/// A sentence, when the text is too long for a code.
pub fn qr_data_url(text: &str) -> Result<String, String> {
    let svg = qr_svg(text)?;
    Ok(format!("data:image/svg+xml;base64,{}", STANDARD.encode(svg)))
}

/// A text as a QR code: one SVG document of one path.
///
/// # Errors
/// A sentence, when the text is too long for a code.
pub fn qr_svg(text: &str) -> Result<String, String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(|e| e.to_string())?;
    let side = code.width();
    let colors = code.to_colors();
    let mut path = String::new();
    for (row, modules) in colors.chunks(side).enumerate() {
        let mut at = 0;
        while at < side {
            let run = modules[at..].iter().take_while(|it| **it == Color::Dark).count();
            if run > 0 {
                // Writing to a string does not fail.
                let _ = write!(path, "M{} {}h{run}v1h-{run}z", at + QUIET, row + QUIET);
            }
            at += run.max(1);
        }
    }
    let whole = side + 2 * QUIET;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {whole}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{whole}v{whole}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

/// A text as a QR code for a terminal: two modules a character, black on white whatever the terminal's own colours are.
///
/// # Errors
/// A sentence, when the text is too long for a code.
pub fn qr_terminal(text: &str) -> Result<String, String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(|e| e.to_string())?;
    let side = code.width();
    let colors = code.to_colors();
    let dark = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|it| *it < side);
        match (inside(row), inside(column)) {
            (Some(row), Some(column)) => colors[row * side + column] == Color::Dark,
            _ => false,
        }
    };
    let whole = side + 2 * QUIET;
    let mut drawn = String::new();
    for row in (0..whole).step_by(2) {
        drawn.push_str("\x1b[30;107m");
        for column in 0..whole {
            drawn.push(match (dark(row, column), dark(row + 1, column)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawn.push_str("\x1b[0m\n");
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_square_has_its_quiet_zone_and_no_text_of_its_own() {
        let svg = qr_svg("otpauth://totp/x?secret=<&\"").unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
        assert!(!svg.contains("otpauth") && !svg.contains('&'));
        // The finder pattern's upper edge: seven dark modules, four from each side.
        assert!(svg.contains("M4 4h7v1h-7z"), "{svg}");
        assert!(qr_svg(&"x".repeat(5_000)).is_err());
    }

    #[test]
    fn a_terminal_shows_every_module_of_the_code() {
        let text = "https://approvals.example.com/enrol#abcdef";
        let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
        let mut shown: Vec<Vec<bool>> = Vec::new();
        for line in qr_terminal(text).unwrap().lines() {
            let line = line.strip_prefix("\x1b[30;107m").unwrap();
            let cells: Vec<char> = line.strip_suffix("\x1b[0m").unwrap().chars().collect();
            shown.push(cells.iter().map(|it| matches!(it, '█' | '▀')).collect());
            shown.push(cells.iter().map(|it| matches!(it, '█' | '▄')).collect());
        }
        let side = code.width();
        for (row, cells) in shown.iter().enumerate() {
            assert_eq!(cells.len(), side + 2 * QUIET);
            for (column, dark) in cells.iter().enumerate() {
                let inside = |at: usize| (QUIET..QUIET + side).contains(&at);
                let wanted =
                    inside(row) && inside(column) && code[(column - QUIET, row - QUIET)] == Color::Dark;
                assert_eq!(*dark, wanted, "row {row}, column {column}");
            }
        }
        assert!(shown.len() >= side + 2 * QUIET);
        assert!(qr_terminal(&"x".repeat(5_000)).is_err());
    }
}
