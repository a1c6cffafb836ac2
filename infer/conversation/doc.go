// Package conversation lets a language model write the conversations that it is calibrated on: its own answers to a built-in list
// of prompts, in its own chat template, or continuations of openings where it has none. That is the text that a chat model is used
// on, and no data set has to be fetched for it.
//
// [Generate] samples with a fixed seed and drops answers that are too short or repeat themselves. [Load] and [Save] keep what was
// generated, since another machine rounds differently and so would write another text.
package conversation
