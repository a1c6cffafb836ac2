// Package quality measures how well a model does: perplexity as papers report it ([Perplexity]), how far a model is from
// the one it was cut from ([Reference], [Reference.Compare]), and zero-shot multiple choice by log-likelihood as EleutherAI's
// lm-evaluation-harness computes it ([OpenTask], [Evaluate]). Everything works on any [infer.Model], which may serve other
// callers in between.
//
//	task, err := quality.OpenTask("piqa", "validation.parquet", "")
//	…
//	result, err := quality.Evaluate(ctx, model, task, quality.EvalOptions{})
//	fmt.Printf("%.3f ± %.3f\n", result.Acc, result.AccErr)
//
// Standard errors are those of the mean: the sample standard deviation over the square root of the number.
//
// Errors name the line or question they are about. [ErrFormat] marks text that is not the task's; others are the model's.
package quality
