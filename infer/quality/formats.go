package quality

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// BoolQ (Clark et al. 2019): a passage, a question, yes or no. SuperGLUE, which the harness uses, has label 0 or 1 and the title
// in front of the passage; the authors answer true or false and keep the title in its own field.
func readBoolQ(line []byte, label string) (Item, error) {
	q, err := unmarshal[struct {
		Question, Passage, Title string
		Label                    index
		Answer                   *bool
	}](line)
	if err != nil {
		return Item{}, err
	}
	gold := 0
	if q.Answer != nil {
		if *q.Answer {
			gold = 1
		}
	} else if gold, err = q.Label.or(label); err != nil {
		return Item{}, err
	}
	if q.Question == "" {
		return Item{}, fmt.Errorf("no question: %w", ErrFormat)
	}
	if q.Title != "" {
		q.Passage = q.Title + " -- " + q.Passage
	}
	return simple(q.Passage+"\nQuestion: "+q.Question+"?\nAnswer:", []string{"no", "yes"}, gold), nil
}

// PIQA (Bisk et al. 2020): a goal and two ways to reach it; the authors keep the labels in a separate file.
func readPIQA(line []byte, label string) (Item, error) {
	q, err := unmarshal[struct {
		Goal, Sol1, Sol2 string
		Label            index
	}](line)
	if err != nil {
		return Item{}, err
	}
	gold, err := q.Label.or(label)
	if err != nil {
		return Item{}, err
	}
	return simple("Question: "+q.Goal+"\nAnswer:", []string{q.Sol1, q.Sol2}, gold), nil
}

// HellaSwag (Zellers et al. 2019): a scene and four continuations, with markup of the web pages they are from.
func readHellaSwag(line []byte, label string) (Item, error) {
	q, err := unmarshal[struct {
		Activity string `json:"activity_label"`
		CtxA     string `json:"ctx_a"`
		CtxB     string `json:"ctx_b"`
		Endings  []string
		Label    index
	}](line)
	if err != nil {
		return Item{}, err
	}
	gold, err := q.Label.or(label)
	if err != nil {
		return Item{}, err
	}
	answers := make([]string, len(q.Endings))
	for i, e := range q.Endings {
		answers[i] = cleanHellaSwag(e)
	}
	return simple(cleanHellaSwag(q.Activity+": "+q.CtxA+" "+capitalize(q.CtxB)), answers, gold), nil
}

// cleanHellaSwag removes WikiHow's markup as the harness does.
func cleanHellaSwag(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), " [title]", ". ")
	s = regexp.MustCompile(`\[.*?\]`).ReplaceAllString(s, "")
	return strings.ReplaceAll(s, "  ", " ")
}

// capitalize is Python's: the first letter in title case, all others in lower case.
func capitalize(s string) string {
	first, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(first)) + strings.ToLower(s[n:])
}

// WinoGrande (Sakaguchi et al. 2020): a sentence with a gap and two words for it. The likelihood is that of the text after the
// gap, given either word.
func readWinoGrande(line []byte, label string) (Item, error) {
	q, err := unmarshal[struct {
		Sentence, Option1, Option2 string
		Answer                     index
	}](line)
	if err != nil {
		return Item{}, err
	}
	gold, err := q.Answer.or(label)
	if err != nil {
		return Item{}, err
	}
	before, after, ok := strings.Cut(q.Sentence, "_")
	if !ok {
		return Item{}, fmt.Errorf("a sentence without a gap: %w", ErrFormat)
	}
	after = strings.TrimSpace(after)
	item := Item{Gold: gold - 1}
	for _, option := range []string{q.Option1, q.Option2} {
		if option == "" {
			return Item{}, fmt.Errorf("an empty option: %w", ErrFormat)
		}
		item.Choices = append(item.Choices, Choice{
			Context: before + option, Continuation: " " + after, Length: utf8.RuneCountInString(after),
		})
	}
	return item, nil
}

// ARC (Clark et al. 2018): questions of school science.
func readARC(line []byte, _ string) (Item, error) {
	q, err := readLabelled(line)
	if err != nil {
		return Item{}, err
	}
	return simple("Question: "+q.stem+"\nAnswer:", q.texts, q.gold), nil
}

// OpenBookQA (Mihaylov et al. 2018): as ARC, without "Question:" and "Answer:".
func readOpenBookQA(line []byte, _ string) (Item, error) {
	q, err := readLabelled(line)
	if err != nil {
		return Item{}, err
	}
	return simple(q.stem, q.texts, q.gold), nil
}

type labelled struct {
	stem  string
	texts []string
	gold  int
}

// readLabelled reads the two forms of AI2's questions: the authors' {"question": {"stem", "choices": [{"text", "label"}]},
// "answerKey"}, and the hub's {"question" or "question_stem", "choices": {"text": […], "label": […]}, "answerKey"}.
func readLabelled(line []byte) (labelled, error) {
	q, err := unmarshal[struct {
		Question  json.RawMessage
		Stem      string `json:"question_stem"`
		Choices   struct{ Text, Label []string }
		AnswerKey string
	}](line)
	if err != nil {
		return labelled{}, err
	}
	out := labelled{stem: q.Stem, texts: q.Choices.Text}
	labels := q.Choices.Label
	if len(q.Question) > 0 && q.Question[0] == '{' {
		own, err := unmarshal[struct {
			Stem    string
			Choices []struct{ Text, Label string }
		}](q.Question)
		if err != nil {
			return labelled{}, err
		}
		out.stem, out.texts, labels = own.Stem, nil, nil
		for _, c := range own.Choices {
			out.texts, labels = append(out.texts, c.Text), append(labels, c.Label)
		}
	} else if len(q.Question) > 0 && out.stem == "" {
		if out.stem, err = unmarshal[string](q.Question); err != nil {
			return labelled{}, err
		}
	}
	out.gold = slices.Index(labels, strings.TrimSpace(q.AnswerKey))
	if out.stem == "" || len(labels) != len(out.texts) || out.gold < 0 {
		return labelled{}, fmt.Errorf("answer %q to a question with labels %q and %d texts: %w", q.AnswerKey, labels, len(out.texts), ErrFormat)
	}
	return out, nil
}
