package quality

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func item(gold int, context string, answers ...string) Item { return simple(context, answers, gold) }

func TestParseTask(t *testing.T) {
	tests := []struct {
		name, task, questions, labels string
		want                          []Item
	}{
		{"BoolQ of SuperGLUE", "boolq", `{"question":"is it so","passage":"It -- It is.","idx":0,"label":1}`, "",
			[]Item{item(1, "It -- It is.\nQuestion: is it so?\nAnswer:", "no", "yes")}},
		{"BoolQ of its authors", "boolq", `{"question":"is it so","title":"It","answer":false,"passage":"It is."}`, "",
			[]Item{item(0, "It -- It is.\nQuestion: is it so?\nAnswer:", "no", "yes")}},
		{"PIQA with labels apart", "piqa", `{"goal":"Boil water","sol1":"Heat it.","sol2":"Cool it."}` + "\n\n" + `{"goal":"Cool tea","sol1":"Heat it.","sol2":"Blow."}`, "0\n1\n",
			[]Item{item(0, "Question: Boil water\nAnswer:", "Heat it.", "Cool it."), item(1, "Question: Cool tea\nAnswer:", "Heat it.", "Blow.")}},
		{"PIQA of the hub", "piqa", `{"goal":"Boil water","sol1":"Heat it.","sol2":"Cool it.","label":1}`, "",
			[]Item{item(1, "Question: Boil water\nAnswer:", "Heat it.", "Cool it.")}},
		{"HellaSwag", "hellaswag", `{"ind":1,"activity_label":"Baking","ctx_a":"[header] How to bake [title] Mix it.","ctx_b":"then she","ctx":"x","endings":[" runs  away. ","bakes [step] it."],"label":"1"}`, "",
			[]Item{item(1, "Baking: How to bake. Mix it. Then she", "runs away.", "bakes it.")}},
		{"WinoGrande", "winogrande", `{"sentence":"The cup did not fit the box because _ was too big.","option1":"the cup","option2":"the box","answer":"1"}`, "",
			[]Item{{Gold: 0, Choices: []Choice{
				{"The cup did not fit the box because the cup", " was too big.", 12},
				{"The cup did not fit the box because the box", " was too big.", 12}}}}},
		{"WinoGrande with labels apart", "winogrande", `{"sentence":"_ ran.","option1":"A","option2":"B"}`, "2",
			[]Item{{Gold: 1, Choices: []Choice{{"A", " ran.", 4}, {"B", " ran.", 4}}}}},
		{"ARC of the hub", "arc_easy", `{"id":"x","question":"What is hot?","choices":{"text":["Ice","Fire"],"label":["1","2"]},"answerKey":"2"}`, "",
			[]Item{item(1, "Question: What is hot?\nAnswer:", "Ice", "Fire")}},
		{"ARC of its authors", "arc_challenge", `{"id":"x","question":{"stem":"What is hot?","choices":[{"text":"Ice","label":"A"},{"text":"Fire","label":"B"},{"text":"Snöw","label":"C"}]},"answerKey":"A"}`, "",
			[]Item{item(0, "Question: What is hot?\nAnswer:", "Ice", "Fire", "Snöw")}},
		{"OpenBookQA", "openbookqa", `{"question_stem":"Hot is","choices":{"text":["ice","fire"],"label":["A","B"]},"answerKey":"B"}`, "",
			[]Item{item(1, "Hot is", "ice", "fire")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got Task
			var err error
			if tt.labels == "" {
				got, err = ParseTask(tt.task, strings.NewReader(tt.questions), nil)
			} else {
				got, err = ParseTask(tt.task, strings.NewReader(tt.questions), strings.NewReader(tt.labels))
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got.Items); d != "" {
				t.Error(d)
			}
		})
	}
	if c := item(0, "x", "Snöw", "b").Choices[0]; c.Length != 4 || c.Continuation != " Snöw" {
		t.Errorf("choice %+v", c)
	}
}

func TestParseTaskRefuses(t *testing.T) {
	for name, tt := range map[string][3]string{
		"unknown task":         {"mmlu", `{}`, ""},
		"empty":                {"piqa", " \n", ""},
		"no JSON":              {"piqa", "goal: x", ""},
		"another type":         {"piqa", `{"goal":1}`, ""},
		"no label":             {"piqa", `{"goal":"x","sol1":"a","sol2":"b"}`, ""},
		"too few labels":       {"piqa", `{"goal":"x","sol1":"a","sol2":"b"}` + "\n" + `{"goal":"x","sol1":"a","sol2":"b"}`, "1"},
		"label out of range":   {"piqa", `{"goal":"x","sol1":"a","sol2":"b","label":2}`, ""},
		"negative label":       {"winogrande", `{"sentence":"a _ b","option1":"a","option2":"b","answer":"0"}`, ""},
		"label of words":       {"hellaswag", `{"ctx_a":"x","endings":["a","b"],"label":"one"}`, ""},
		"no gap":               {"winogrande", `{"sentence":"a b","option1":"a","option2":"b","answer":"1"}`, ""},
		"one choice":           {"hellaswag", `{"ctx_a":"x","endings":["a"],"label":0}`, ""},
		"answer not there":     {"arc_easy", `{"question":"x","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"C"}`, ""},
		"labels without texts": {"arc_easy", `{"question":"x","choices":{"text":["a"],"label":["A","B"]},"answerKey":"A"}`, ""},
		"long line":            {"piqa", `{"goal":"` + strings.Repeat("x", maxLine) + `"}`, ""},
	} {
		var err error
		if tt[2] == "" {
			_, err = ParseTask(tt[0], strings.NewReader(tt[1]), nil)
		} else {
			_, err = ParseTask(tt[0], strings.NewReader(tt[1]), strings.NewReader(tt[2]))
		}
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		} else if name != "unknown task" && name != "long line" && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v is not ErrFormat", name, err)
		}
	}
}

// FuzzParseTask: any text yields valid questions or an error.
func FuzzParseTask(f *testing.F) {
	f.Add("boolq", `{"question":"q","passage":"p","label":1}`, "")
	f.Add("piqa", `{"goal":"g","sol1":"a","sol2":"b"}`, "1")
	f.Add("hellaswag", `{"activity_label":"a","ctx_a":"b","ctx_b":"c","endings":["d","e"],"label":"1"}`, "")
	f.Add("winogrande", `{"sentence":"a _ b","option1":"c","option2":"d","answer":"1"}`, "")
	f.Add("arc_easy", `{"question":{"stem":"x","choices":[{"text":"a","label":"A"},{"text":"b","label":"B"}]},"answerKey":"A"}`, "")
	f.Add("openbookqa", `{"question_stem":"x","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"A"}`, "")
	f.Fuzz(func(t *testing.T, task, questions, labels string) {
		got, err := ParseTask(task, strings.NewReader(questions), strings.NewReader(labels))
		if err != nil {
			return
		}
		for _, item := range got.Items {
			if len(item.Choices) < 2 || item.Gold < 0 || item.Gold >= len(item.Choices) {
				t.Errorf("question %+v", item)
			}
		}
	})
}
