//! Networks that spell: what they answer with is a symbol for each position, and a word stands for a class.

use super::Error;
use serde::Deserialize;

/// How answers spell, as a sidecar has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SequenceOptions {
    /// The symbols of the network's answers, in order. The first is none of a word: CTC's blank, or the end of the word.
    pub alphabet: String,
    pub reading: Reading,
    /// The word of each class; not given: its name.
    pub words: Option<Vec<String>>,
}

/// How positions become a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// Repeated symbols are one, blanks are none (connectionist temporal classification, Graves et al. 2006).
    Ctc,
    /// A symbol a position, up to the first end symbol.
    Positions,
}

/// The words of the classes, as indices into the alphabet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub symbols: usize,
    pub reading: Reading,
    /// By class; a symbol is 1 or more.
    words: Vec<Vec<u16>>,
}

impl Sequence {
    /// Spells the classes.
    ///
    /// # Errors
    /// When a word has a symbol that is none of the alphabet's, or there are more or fewer words than classes.
    pub fn new(options: &SequenceOptions, class_names: &[String]) -> Result<Sequence, Error> {
        let alphabet: Vec<char> = options.alphabet.chars().collect();
        let words = options.words.as_deref().unwrap_or(class_names);
        let fail = |what: String| Err(Error::Mismatch { what });
        if words.len() != class_names.len() {
            return fail(format!(
                "[sequence] spells {} words, and there are {} classes",
                words.len(),
                class_names.len()
            ));
        }
        let spelled = |word: &String| {
            let symbol = |c: char| alphabet.iter().skip(1).position(|&a| a == c).map(|i| i as u16 + 1).ok_or(c);
            word.chars().map(symbol).collect::<Result<Vec<u16>, char>>()
        };
        let mut spelling = vec![];
        for word in words {
            match spelled(word) {
                Ok(symbols) if !symbols.is_empty() => spelling.push(symbols),
                Ok(_) => return fail("a class has no word; list the words in [sequence]".into()),
                Err(c) => {
                    let what = format!("'{c}' of the word '{word}' is none of the alphabet's symbols after the first");
                    return fail(format!("{what} ('{}'); see [sequence] in the sidecar", options.alphabet));
                }
            }
        }
        Ok(Sequence { symbols: alphabet.len(), reading: options.reading, words: spelling })
    }

    /// The symbols of a class's word.
    pub fn word(&self, class: u16) -> &[u16] {
        self.words.get(usize::from(class)).map_or(&[], Vec::as_slice)
    }

    /// The likeliest symbol of each position.
    fn said(&self, logits: &[f32]) -> impl Iterator<Item = u16> {
        let best = |row: &[f32]| {
            row.iter().enumerate().fold((0, f32::NEG_INFINITY), |b, (i, &z)| if z > b.1 { (i, z) } else { b }).0 as u16
        };
        logits.chunks(self.symbols.max(1)).map(best)
    }

    /// Positions of an answer up to the first end symbol and with it, where each has its symbol; all where there is none.
    pub fn length(&self, logits: &[f32]) -> usize {
        let positions = logits.len() / self.symbols.max(1);
        self.said(logits).position(|symbol| symbol == 0).map_or(positions, |end| end + 1)
    }

    /// The class that an answer spells, position by position, greedily; `None` where it spells none.
    pub fn class(&self, logits: &[f32]) -> Option<u16> {
        let mut word: Vec<u16> = vec![];
        let mut before = 0;
        for symbol in self.said(logits) {
            match self.reading {
                Reading::Ctc if symbol != 0 && symbol != before => word.push(symbol),
                Reading::Ctc => {}
                Reading::Positions if symbol == 0 => break,
                Reading::Positions => word.push(symbol),
            }
            before = symbol;
        }
        self.words.iter().position(|known| *known == word).map(|class| class as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(reading: Reading) -> Sequence {
        let options = SequenceOptions { alphabet: "_abc".into(), reading, words: None };
        Sequence::new(&options, &["aab".into(), "c".into()]).unwrap()
    }

    fn rows(symbols: &[usize]) -> Vec<f32> {
        symbols.iter().flat_map(|&s| (0..4).map(move |i| if i == s { 1.0 } else { 0.0 })).collect()
    }

    #[test]
    fn answers_are_read() {
        let ctc = spelling(Reading::Ctc);
        assert_eq!(ctc.class(&rows(&[0, 1, 1, 0, 1, 2, 2, 0])), Some(0));
        assert_eq!(ctc.class(&rows(&[1, 1, 2])), None);
        assert_eq!(ctc.class(&rows(&[3, 3, 3])), Some(1));
        let positions = spelling(Reading::Positions);
        assert_eq!(positions.class(&rows(&[1, 1, 2, 0, 3])), Some(0));
        assert_eq!(positions.class(&rows(&[3, 3])), None);
        assert_eq!([&[1, 1, 2, 0, 3][..], &[3, 3], &[0, 3]].map(|said| positions.length(&rows(said))), [4, 2, 1]);
    }

    #[test]
    fn what_cannot_be_spelled_is_refused() {
        let options = SequenceOptions { alphabet: "_ab".into(), reading: Reading::Ctc, words: None };
        let error = Sequence::new(&options, &["ac".into()]).unwrap_err().to_string();
        assert!(error.contains("'c' of the word 'ac'"), "{error}");
        // The first symbol is no letter.
        assert!(Sequence::new(&options, &["_".into()]).is_err());
    }
}
