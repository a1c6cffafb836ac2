package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// vocabResult is what `vocab` writes with --json.
type vocabResult struct {
	Model  string `json:"model"`
	Subnet string `json:"subnet,omitempty"` // id in the workspace; "" if it was not stored
	Name   string `json:"name,omitempty"`
	explorer.Vocab
	Longer      float64 `json:"tokens_relative"` // tokens per word over those of the whole vocabulary
	BitsPerByte float64 `json:"bits_per_byte,omitempty"`
	DenseBits   float64 `json:"dense_bits_per_byte,omitempty"` // of the model as it is, on the same text
	// Bytes and WholeBytes are sizes of the file with the smaller and with the whole vocabulary, in the type that is written.
	Bytes      int64        `json:"bytes"`
	WholeBytes int64        `json:"whole_bytes"`
	Saved      int64        `json:"saved_bytes"`
	Export     *gguf.Report `json:"export,omitempty"`
	Seconds    float64      `json:"seconds"`
}

func (a *app) vocabCommand() *cobra.Command {
	var (
		c       explorer.TrimVocab
		out     outFlags
		sub     string
		windows int
	)
	cmd := &cobra.Command{
		Use:   "vocab [MODEL]",
		Short: "Drop the tokens of the vocabulary that texts use least",
		Long: "Counts the tokens of texts, seven eighths of each up to 16 MiB, and drops those that occur least, with their rows of the embedding and of\n" +
			"the output matrix. It keeps special tokens, bytes, digits, tokens that the chat template writes, letters of the texts' scripts and every\n" +
			"token that a kept one is merged from, so that every text can still be tokenised, with shorter tokens in place of the dropped ones.\n\n" +
			"Perplexity is per token and cannot be compared across vocabularies; bits per byte can. They are measured at the end of the default\n" +
			"text, before and after. Without -o the subnet is added to the model's workspace. Texts in scripts that lose tokens take more tokens;\n" +
			"the table shows how many each script keeps. A size that would drop a token of the template or a letter of the texts is refused,\n" +
			"unless --allow-loss is given.",
		Example: "  lathe vocab model.gguf --keep 24000 -o small.gguf\n  lathe vocab model.gguf --share 0.999 --text letters/ --text wiki:0.2 -o mine.gguf\n  lathe vocab --subnet s3 --keep 16000 --name smaller",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if !c.Vocab.On() {
				return usage(errors.New("--keep TOKENS or --share SHARE is missing"))
			}
			if err := out.check(); err != nil {
				return err
			}
			if windows < 0 {
				return usage(fmt.Errorf("--windows %d: not a number of windows", windows))
			}
			k := out.storage()
			if sub != string(explorer.DenseID) {
				k = inWorkspace
			}
			return a.with(cmd.Context(), model, k, func(e exploration) error {
				if c.Subnet, err = find(e.Snapshot(), sub); err != nil {
					return err
				}
				return a.vocab(cmd.Context(), e, c, out, windows)
			})
		},
	}
	flags := cmd.Flags()
	flags.Var(&whole{&c.Vocab.Keep, explorer.Range{Lo: 1, Hi: subnet.MaxVocab}}, "keep", "tokens to keep")
	flags.Var(&number{&c.Vocab.Share, explorer.VocabShareRange()}, "share", "keep as many tokens as make up this share of the tokens of the texts, such as 0.999")
	flags.BoolVar(&c.Vocab.Force, "allow-loss", false, "let --keep drop tokens of the chat template and letters of the texts' scripts")
	flags.Var(&calibrationText{c: &c.Calibration}, "text", "text to count tokens in: a file, or a folder of text files; several times for a mix, as NAME=PATH:SHARE; wiki, web, code and chat are built in (default: "+defaultTexts()+")")
	flags.StringVar(&sub, "subnet", string(explorer.DenseID), "subnet of the workspace whose vocabulary to trim: an id, a name, or draft")
	flags.StringVar(&c.Name, "name", "", "name of the result in the workspace")
	flags.IntVar(&windows, "windows", 2, "windows of 1024 tokens to measure bits per byte on, 0 for none")
	out.add(cmd)
	return cmd
}

// vocab trims the vocabulary of a subnet, measures it, writes the output file, if any, and shows the result.
func (a *app) vocab(ctx context.Context, e exploration, c explorer.TrimVocab, out outFlags, windows int) error {
	began := time.Now()
	of, err := e.Snapshot().Masks(c.Subnet)
	if err != nil {
		return err
	}
	job, err := a.start(ctx, e, c)
	if errors.Is(err, vocab.ErrLoss) {
		return fmt.Errorf("%w; --allow-loss drops them", err)
	}
	if err != nil {
		return err
	}
	if windows > 0 {
		seq := 1024
		if trained := e.Snapshot().Model.Context; trained > 0 {
			seq = min(seq, trained)
		}
		measure := explorer.Measure{Subnet: job.Result, Seq: seq, Windows: windows, Against: explorer.AgainstDense}
		if _, err := a.start(ctx, e, measure); err != nil {
			fmt.Fprintf(a.stderr, "lathe: warning: bits per byte were not measured: %s\n", firstLine(err))
		}
	}
	s := e.Snapshot()
	n, ok := s.Subnet(job.Result)
	if !ok || n.Method.Vocab == nil {
		return fmt.Errorf("%s made no subnet", job.Title)
	}
	r := vocabResult{
		Model: s.Model.Path, Name: n.Name, Vocab: *n.Method.Vocab, Longer: n.Method.Vocab.Longer(),
		Bytes: s.ExportBytes(n.ID, out.typ), WholeBytes: s.ExportBytes(c.Subnet, out.typ),
	}
	if c.Subnet == explorer.DenseID && out.typ == "" {
		r.WholeBytes = s.Model.Bytes
	}
	if len(n.Measurements) > 0 {
		r.BitsPerByte, r.DenseBits = n.Measurements[0].BitsPerByte(), n.Measurements[0].DenseBits
	}
	if s.Workspace.Path != "" {
		r.Subnet = string(n.ID)
	}
	if out.path != "" {
		if r.Export, err = a.export(ctx, e, n.ID, out); err != nil {
			return a.keep(ctx, e, n, err)
		}
		r.Bytes = r.Export.Bytes
	}
	r.Saved = r.WholeBytes - r.Bytes
	r.Seconds = time.Since(began).Seconds()
	if out.path == toStdout {
		r.words(a.stderr, of.VocabLen())
		return nil
	}
	return a.result(r, func(w io.Writer) { r.words(w, of.VocabLen()) })
}

// words describes the result, of a subnet that had so many tokens.
func (r vocabResult) words(w io.Writer, had int) {
	vocabWords(w, &r.Vocab)
	fmt.Fprintf(w, "%s instead of %s with %d tokens: %s saved\n", format.Bytes(r.Bytes), format.Bytes(r.WholeBytes), had, format.Bytes(r.Saved))
	if r.BitsPerByte > 0 {
		fmt.Fprintf(w, "%.4f bits per byte at the end of the default text", r.BitsPerByte)
		if r.DenseBits > 0 {
			fmt.Fprintf(w, ", the dense model %.4f (%+.2f %%)", r.DenseBits, 100*(r.BitsPerByte/r.DenseBits-1))
		}
		fmt.Fprintln(w)
	}
	rows := [][]string{{"script", "kept", "of", "share"}}
	for _, s := range r.Scripts {
		rows = append(rows, []string{s.Name, fmt.Sprint(s.Kept), fmt.Sprint(s.Of), fmt.Sprintf("%.0f %%", 100*float64(s.Kept)/float64(max(s.Of, 1)))})
	}
	table(w, rows...)
	if x := r.Export; x != nil {
		fmt.Fprintf(w, "%s: %s\n", x.Path, format.Bytes(x.Bytes))
		fallbackWords(w, x.Fallbacks)
		noteWords(w, x.Notes)
	}
	if r.Subnet != "" {
		fmt.Fprintf(w, "kept in the workspace as %s (%s)\n", r.Subnet, r.Name)
	}
	fmt.Fprintf(w, "took %s\n", format.Clock(time.Duration(r.Seconds*float64(time.Second))))
}

// vocabWords describes a smaller vocabulary in a line.
func vocabWords(w io.Writer, v *explorer.Vocab) {
	if v == nil {
		return
	}
	where := "on the text that was counted"
	if v.HeldOut {
		where = "on held-out text"
	}
	fmt.Fprintf(w, "%d of %d tokens of the vocabulary kept, %.2f %% of %s tokens counted; %s %.3f tokens per word instead of %.3f (%+.1f %%)\n",
		v.Kept, v.Of, 100*v.Covered, format.Count(v.Tokens), where, v.TokensPerWord, v.DenseTokensPerWord, 100*(v.Longer()-1))
}

// vocabFlag adds the flag of the size of a vocabulary.
func vocabFlag(cmd *cobra.Command, to *explorer.VocabSize, texts string) {
	cmd.Flags().Var(&vocabValue{to}, "vocab", "tokens of the vocabulary to keep: a number such as 24000, a share of the tokens of "+texts+" such as 0.999 (see lathe vocab), or auto if types are chosen for a size (default: all)")
}

// vocabValue is the value of that flag.
type vocabValue struct{ to *explorer.VocabSize }

func (v *vocabValue) String() string {
	if v.to == nil {
		return ""
	}
	return v.to.String()
}

func (v *vocabValue) Set(text string) error {
	size, err := explorer.ParseVocabSize(text)
	if err == nil {
		*v.to = size
	}
	return err
}

func (v *vocabValue) Type() string { return "tokens" }
