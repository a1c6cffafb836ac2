// Package corpus draws windows of tokens from texts: over a whole text, each from the start of a document, the same ones for
// the same seed. The end of a text is left for measurements. [Apportion] and [Order] divide windows among several texts.
//
// A document is what the text marks as one: an article between <doc> tags of WikiExtractor, an article under a heading of
// WikiText, or a line of a file that has long lines only. A text without such marks has paragraphs instead, or lines.
package corpus
