// Package quality measures the quality of language models: perplexity with its standard error, as papers report it
// ([Windows], [Perplexity]), the distance from a reference such as the dense model ([Compare]), and zero-shot multiple choice by log-likelihood, as EleutherAI's lm-evaluation-harness
// computes it ([OpenTask], [Evaluate]).
//
// [Evaluate] works on any [infer.Model], [Perplexity] on any [Scorer], of which [ModelScorer] is one, and
// [Compare] on two [Predictor]s. Models may serve
// other callers in between.
//
//	task, err := quality.OpenTask("piqa", "validation.parquet", "")
//	…
//	result, err := quality.Evaluate(ctx, model, task, quality.EvalOptions{})
//	fmt.Printf("%.3f ± %.3f\n", result.Acc, result.AccErr)
//
// Standard errors are those of the mean: the sample standard deviation over the square root of the number of samples.
// They take tokens, or questions, as independent.
//
// Errors name the window, line or question they are about. [ErrFormat] marks files that are not in the task's format;
// other errors are the model's.
package quality
