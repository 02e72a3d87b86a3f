//! "Did you mean": the known word that is closest to a mistyped one.

/// The closest of `known`, when it is close enough to be meant.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            let length = candidate.chars().count().max(word.chars().count());
            *distance <= length / 3
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint that ends in the suggestion where there is one: ` Did you mean "width"?`.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, known).map_or_else(String::new, |found| format!(" Did you mean \"{found}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_words_are_suggested() {
        let known = ["prompt", "negative", "width", "height"];
        assert_eq!(closest("promt", known), Some("prompt"));
        assert_eq!(closest("Widht", known), Some("width"));
        assert_eq!(closest("color", known), None);
        assert_eq!(closest("", known), None);
        assert_eq!(did_you_mean("higth", known), " Did you mean \"height\"?");
    }
}
