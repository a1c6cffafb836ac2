package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/corpus"
	"github.com/lathe-llm/lathe/infer/hub"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// protocolPaper names the settings of the figures in arXiv 2409.17372.
const protocolPaper = "paper"

const protocolHelp = "--protocol paper has the settings of arXiv 2409.17372, for LLaMA, OPT and any other model: 128 windows of 2048 tokens of WikiText-2 train\n" +
	"to calibrate and search on; the whole of WikiText-2 test and of PTB test (the Penn Treebank, sentences joined by spaces), in windows\n" +
	"of 2048 tokens, with the start token before the first if the tokenizer adds it; the methods search:paper with all its epochs, paper-init, flap\n" +
	"and wanda-sp. Texts come from the Hugging Face hub or from its cache; --text and --test name files instead. Other flags that are given\n" +
	"replace its settings. If the model has the shape of one in the paper, the paper's figures are shown too."

// protocolWindows are the calibration windows of the paper.
const protocolWindows = 128

// protocolText is a text of a protocol: a split of a data set, whose records are joined as published evaluations do.
type protocolText struct {
	name, file       string
	of               quality.Dataset
	field, separator string
}

// protocolSet returns the calibration text and the test texts of the paper.
func protocolSet() (train protocolText, tests []protocolText) {
	wiki := func(split string) protocolText {
		return protocolText{
			name: "wikitext2", file: "wikitext-2-" + split + ".txt", of: quality.Dataset{Owner: "Salesforce", Name: "wikitext", Config: "wikitext-2-raw-v1", Split: split},
			field: "text", separator: "\n\n",
		}
	}
	ptb := protocolText{
		name: "ptb", file: "ptb-test.txt", of: quality.Dataset{Owner: "ptb-text-only", Name: "ptb_text_only", Config: "penn_treebank", Split: "test"},
		field: "sentence", separator: " ",
	}
	return wiki("train"), []protocolText{wiki("test"), ptb}
}

// choose replaces settings that were not given by those of the protocol, texts aside.
func (f *compareFlags) choose(cmd *cobra.Command) {
	if f.protocol == "" {
		return
	}
	for flag, set := range map[string]func(){
		"methods":      func() { f.methods = "search:paper,paper-init,flap,wanda-sp" },
		"budget":       func() { f.budget = "none" },
		"windows":      func() { f.cut.Calibration.Windows = protocolWindows },
		"seq":          func() { f.cut.Calibration.Seq = 2048 },
		"test-windows": func() { f.test.Windows = 0 },
		"test-seq":     func() { f.test.Seq = 2048 },
		"bos":          func() { f.test.BOS = explorer.BOSAutoFirst },
	} {
		if !cmd.Flags().Changed(flag) {
			set()
		}
	}
}

// protocolTexts fetches the texts of the protocol that were not given, as files in a temporary folder, which remove removes.
func (a *app) protocolTexts(cmd *cobra.Command, f *compareFlags) (remove func() error, err error) {
	remove = func() error { return nil }
	if f.protocol == "" {
		return remove, nil
	}
	train, tests := protocolSet()
	var missing []protocolText
	needsTrain := !cmd.Flags().Changed("text")
	if needsTrain {
		missing = append(missing, train)
	}
	if len(f.texts.list) == 0 {
		missing = append(missing, tests...)
	}
	if len(missing) == 0 {
		return remove, nil
	}
	files := make([]string, len(missing))
	for i, t := range missing { // before anything is written
		if files[i], err = a.dataFile(cmd.Context(), t.of); err != nil {
			return remove, fmt.Errorf("--protocol %s: %s: %w; with the file at hand: %s", f.protocol, t.file, err, t.instead(t.file == train.file))
		}
	}
	dir, err := a.scratch("protocol")
	if err != nil {
		return remove, err
	}
	for i, t := range missing {
		path := dir.Join(t.file)
		if err := t.join(files[i], path); err != nil {
			return remove, errors.Join(fmt.Errorf("--protocol %s: %w", f.protocol, err), dir.Remove())
		}
		if needsTrain && i == 0 {
			f.cut.Calibration.Text = path
			continue
		}
		if err := f.texts.add(testText{t.name, path}); err != nil {
			return remove, errors.Join(err, dir.Remove())
		}
	}
	return dir.Remove, nil
}

// instead names the flag that replaces the text.
func (t protocolText) instead(train bool) string {
	if train {
		return "--text FILE"
	}
	return "--test " + t.name + "=FILE for each test text"
}

// maxProtocolText bounds a text of a protocol, in bytes.
const maxProtocolText = 256 << 20

// join writes the records of a data file as one text.
func (t protocolText) join(file, to string) error {
	text, err := corpus.JoinDataSet(file, t.field, t.separator, maxProtocolText)
	if err != nil {
		return input(err)
	}
	return os.WriteFile(filepath.Clean(to), []byte(text), 0o600)
}

// publishedModel are perplexities of the paper for one model, on WikiText-2 and PTB, dense first; PTB's may be fewer.
type publishedModel struct {
	Model string    `json:"model"`
	Ratio []float64 `json:"ratio"`
	Wiki  []float64 `json:"wikitext2"`
	PTB   []float64 `json:"ptb"`
	shape publishedShape
}

// publishedShape is what the models of the paper differ in.
type publishedShape struct {
	arch                string
	layers, hidden, ffn int
}

// publishedFor returns the figures of the paper for the model of a shape, nil for none. Models of one shape, such as LLaMA and Llama 2,
// have the same figures.
func publishedFor(g *subnet.Geometry) *publishedModel {
	if g == nil || len(g.Layers) == 0 {
		return nil
	}
	shape := publishedShape{g.Arch, len(g.Layers), g.Hidden, g.Layers[0].FFN}
	list := published()
	i := slices.IndexFunc(list, func(p publishedModel) bool { return p.shape == shape })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// published are the figures of arXiv 2409.17372 at a sequence length of 2048.
func published() []publishedModel {
	all := []float64{1, 0.9, 0.8, 0.7, 0.6, 0.5}
	return []publishedModel{
		{"LLaMA-7B", all, []float64{5.68, 6.10, 6.89, 8.28, 10.21, 15.48}, []float64{27.34, 32.05, 36.06, 45.26, 62.07, 117.06}, publishedShape{"llama", 32, 4096, 11008}},
		{"LLaMA-13B", all, []float64{5.09, 5.39, 5.90, 6.67, 8.00, 10.44}, []float64{19.23, 20.63, 22.66, 26.37, 33.23, 45.73}, publishedShape{"llama", 40, 5120, 13824}},
		{"LLaMA-30B", all, []float64{4.10, 4.44, 4.94, 5.63, 6.70, 8.01}, []float64{16.29, 17.15, 18.80, 20.70, 24.22, 30.51}, publishedShape{"llama", 60, 6656, 17920}},
		{"LLaMA-65B", all, []float64{3.53, 3.84, 4.29, 4.80, 5.49, 6.45}, []float64{17.61, 19.22, 20.40, 21.39, 23.41, 30.08}, publishedShape{"llama", 80, 8192, 22016}},
		{"OPT-125M", all[:4], []float64{27.65, 30.97, 44.12, 80.84}, []float64{38.99, 40.14, 66.55, 124.27}, publishedShape{"opt", 12, 768, 3072}},
		{"OPT-1.3B", all[:4], []float64{14.63, 15.51, 19.23, 26.82}, []float64{20.29, 20.19, 32.81, 69.42}, publishedShape{"opt", 24, 2048, 8192}},
		{"OPT-2.7B", all[:4], []float64{12.47, 13.32, 16.44, 23.48}, []float64{17.97, 17.24, 23.66, 58.46}, publishedShape{"opt", 32, 2560, 10240}},
	}
}

func (p *publishedModel) words(w io.Writer) {
	if p == nil {
		return
	}
	fmt.Fprintf(w, "\npublished for %s (arXiv 2409.17372), perplexity and × dense\n", p.Model)
	rows := [][]string{{"ratio", "WikiText-2", "× dense", "PTB", "× dense"}}
	for i, ratio := range p.Ratio {
		rows = append(rows, []string{
			fmt.Sprint(ratio), fmt.Sprintf("%.2f", p.Wiki[i]), fmt.Sprintf("%.3f", p.Wiki[i]/p.Wiki[0]), fmt.Sprintf("%.2f", p.PTB[i]), fmt.Sprintf("%.3f", p.PTB[i]/p.PTB[0]),
		})
	}
	table(w, rows...)
}

// dataFile returns the file of a split of a data set, from the hub or its cache.
func (a *app) dataFile(ctx context.Context, d quality.Dataset) (string, error) {
	p := a.newMeter("download " + d.Owner + "/" + d.Name)
	defer p.clear()
	var failed error
	for _, revision := range []string{quality.ParquetRevision, "main"} { // of those that the hub does not convert, authors store parquet
		repo := hub.Repo{Owner: d.Owner, Name: d.Name, Dataset: true, Revision: revision}
		s, err := hub.New(a.getenv).FetchFiles(ctx, repo, d.Choose, func(q hub.Progress) { p.at(q.Done, q.Total, q.File) })
		if err == nil {
			return filepath.Join(s.Dir, filepath.FromSlash(s.Files[0])), nil
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return "", failed
}
