package search_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

func lexical(text string) search.Query {
	return search.Query{Mode: search.Lexical, Natural: true, Text: text, K: 20}
}

// TestAWordIsFoundAsItIsWritten asks for words that are written in another way than in the passage.
func TestAWordIsFoundAsItIsWritten(t *testing.T) {
	door := testkit.Door(t)
	say(t, door, tenantA, "english", map[string]string{
		"decomposed": "Cre\u0300me bru\u0302le\u0301e is sweet.", "ligature": "The \ufb01le is in the o\ufb03ce.",
		"wide": "Part ＡＢＣ１２３ weighs ½ kg.", "part": "Order E-4711 and AB/12-34.C in black.",
		"code": "C++ calls getUserName and set_user_name of report_2024.final.pdf.",
		"link": "See https://example.com/guide/hoses#seal for more.", "sum": "It costs 1,234.50 dollars.",
		"quote": "O'Neil doesn't like l'eau.", "term": "A short-term loan, and one for C.",
	})
	say(t, door, tenantA, "german", map[string]string{"street": "Die Straße ist gesperrt.",
		"return": "Die Rückgabe ist möglich.", "compound": "Für die Pumpenrücksendung gilt die Gewährleistungsfrist."})
	say(t, door, tenantA, "french", map[string]string{"height": "Élévation du terrain."})
	say(t, door, tenantA, "simple", map[string]string{"chinese": "退貨的期限是三十天。",
		"japanese": "ポンプの保証は２年です。",
		"thai":     "การรับประกันสองปี",
		"arabic":   "الكِتَابُ على الطاولة", "russian": "Ещё один насос."})
	for question, want := range map[string]string{
		"crème": "decomposed", "creme": "decomposed", "BRÛLÉE": "decomposed", "file": "ligature", "office": "ligature",
		"abc123": "wide", "1/2": "wide", "E-4711": "part", "4711": "part", "ab/12-34.c": "part", "C++": "code",
		"getUserName": "code", "getusername": "code", "set_user_name": "code", "report_2024.final.pdf": "code",
		"https://example.com/guide/hoses": "link", "guide": "link", "1234.50": "sum", "1,234.50": "sum",
		"neil": "quote", "eau": "quote", "doesn't": "quote", "strasse": "street", "Rueckgabe": "return",
		"rückgabe": "return", "Pumpe": "compound", "Rücksendung": "compound", "Pumpe Rücksendung": "compound",
		"Frist": "compound", "elevation": "height", "退货": "chinese", "退貨": "chinese",
		"ﾎﾟﾝﾌﾟ": "japanese", "2年": "japanese",
		"รับประกัน": "thai", "الكتاب": "arabic", "еще": "russian",
	} {
		f := ask(t, door, tenantA, lexical(question))
		if got := strings.Fields(named(f.Hits)); len(got) == 0 || got[0] != want {
			t.Errorf("%s finds %v first, want %s", question, got, want)
		}
		if len(f.Corrections) > 0 {
			t.Errorf("%s is corrected: %v", question, f.Corrections)
		}
	}
}

// TestEveryWordFindsItsPassage asks for every word of every passage of twenty languages.
func TestEveryWordFindsItsPassage(t *testing.T) {
	door := testkit.Door(t)
	asked := 0
	for _, c := range languageCollections(t) {
		tenant := uuid.NewSHA1(tenantA, []byte(c.Language))
		texts, by := map[string]string{}, map[string]map[string]bool{}
		for _, p := range c.Passages {
			texts[p.ID] = p.Text
			for _, w := range wordsIn(p.Text) {
				if by[w] == nil {
					by[w] = map[string]bool{}
				}
				by[w][p.ID] = true
			}
		}
		say(t, door, tenant, c.configuration(), texts)
		for w, in := range by {
			asked++
			found := strings.Fields(named(ask(t, door, tenant, lexical(w)).Hits))
			for id := range in {
				if !slices.Contains(found, id) {
					t.Errorf("%s: %q finds %v, not %s", c.Language, w, found, id)
				}
			}
		}
	}
	if asked < 3000 {
		t.Errorf("only %d words", asked)
	}
}

// wordsIn are a text's words, and of scripts without spaces each pair of characters.
func wordsIn(text string) (words []string) {
	for _, w := range strings.FieldsFunc(norm.NFKC.String(text), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsPunct(r)
	}) {
		r := []rune(w)
		if !slices.ContainsFunc(r, func(r rune) bool {
			return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Hangul)
		}) {
			words = append(words, w)
			continue
		}
		for i := 0; i+2 <= len(r); i += 5 {
			words = append(words, string(r[i:i+2]))
		}
	}
	return words
}

// TestAFewPassagesOfAnotherLanguageChangeNothing has two lists of keywords, read as no language, among forty English
// texts: no question in a full sentence finds them first.
func TestAFewPassagesOfAnotherLanguageChangeNothing(t *testing.T) {
	door := testkit.Door(t)
	topics := strings.Fields("pump valve boiler turbine compressor filter gearbox bearing nozzle tank")
	texts := map[string]string{}
	for i := range 38 {
		topic := topics[i%len(topics)]
		texts[fmt.Sprintf("text%02d", i)] = fmt.Sprintf("This report describes the advantages of the %s in plant %d. "+
			"It is one of the oldest of its kind, and the results of the measurements are in the tables at the end. "+
			"The %s was tested for %d hours, and what was found is that it works well when the water is clean. "+
			"There are other reports about the %s, which can be had from the office.", topic, i, topic, i*7, topic)
	}
	say(t, door, tenantA, "english", texts)
	say(t, door, tenantA, "simple", map[string]string{
		"list1": "advantages, pump, valve, what, are, the, of, keywords, index, plant, report, tables",
		"list2": "the, is, how, turbine, gearbox, index of terms, water, office, measurements, advantages"})
	for _, question := range []string{"What are the advantages of the turbine in plant 3?",
		"How is it that the gearbox works when the water is clean?", "Which of the reports is about the nozzle?",
		"What was found when the compressor was tested for the first time?"} {
		f := ask(t, door, tenantA, lexical(question))
		if len(f.Hits) == 0 || strings.HasPrefix(f.Hits[0].Filename, "list") {
			t.Errorf("%s: %s", question, named(f.Hits))
		}
	}
}

// TestAQuestionsWordsWeighAsOftenAsTheyStandThere asks with a word repeated.
func TestAQuestionsWordsWeighAsOftenAsTheyStandThere(t *testing.T) {
	door := testkit.Door(t)
	say(t, door, tenantA, "english", map[string]string{"a": "pump house", "b": "valve house", "c": "seal house"})
	for question, want := range map[string]string{"pump valve valve": "b", "pump pumps valve": "a"} {
		if f := ask(t, door, tenantA, lexical(question)); f.Hits[0].Filename != want {
			t.Errorf("%s: %s", question, named(f.Hits))
		}
	}
	one := ask(t, door, tenantA, lexical("seal")).Hits[0].Score
	if three := ask(t, door, tenantA, lexical("seal seals SEAL")).Hits[0].Score; three < 2.99*one || three > 3.01*one {
		t.Errorf("three times scores %v, once %v", three, one)
	}
}

// TestCorrectionsAreWords shows what a word was taken for as it is written, and corrects no word that is there.
func TestCorrectionsAreWords(t *testing.T) {
	door := testkit.Door(t)
	say(t, door, tenantA, "english", map[string]string{"a": "The Advantages of archives.", "b": "A warranty of pumps.",
		"c": "Submersible ones are delivered on vacations", "d": "A comparison", "e": "It lasts."})
	if err := door.Query(t.Context(), tenantA, `INSERT INTO kb_passages (tenant_id, chunk_id, headings, start_byte,
		end_byte, language) SELECT tenant_id, id, ARRAY['Privacy policy'], 0, 1, 'english'
		FROM kb_chunks WHERE content LIKE '%lasts%'`, nil, nil); err != nil {
		t.Fatal(err)
	}
	for question, want := range map[string][]search.Correction{
		"Submersibel": {{From: "submersibel", To: []string{"submersible"}}}, // no ending that a stemmer knows
		"vactaion":    {{From: "vactaion", To: []string{"vacations"}}},
		"deliverd":    {{From: "deliverd", To: []string{"delivered"}}},
		"polocy":      {{From: "polocy", To: []string{"policy"}}}, // of a heading
		"advantagse":  {{From: "advantagse", To: []string{"advantages"}}},
		"warrenty":    {{From: "warrenty", To: []string{"warranty"}}},
		"warranty":    nil, "warranties": nil, "advantage": nil, "archive": nil,
	} {
		f := ask(t, door, tenantA, lexical(question))
		if d := cmp.Diff(want, f.Corrections); d != "" || len(f.Hits) != 1 {
			t.Errorf("%s finds %q: %s", question, named(f.Hits), d)
		}
	}
	if f := ask(t, door, tenantA, lexical("company")); len(f.Corrections)+len(f.Hits) != 0 { // begins as a term does
		t.Errorf("company is taken for %v", f.Corrections)
	}
	exact, near := ask(t, door, tenantA, lexical("warranty")), ask(t, door, tenantA, lexical("warrenty"))
	if w := near.Words[0]; w.Weight != 0.5 || !slices.Equal(w.Terms, []string{"warranty"}) {
		t.Errorf("a correction is shown as %+v", w)
	}
	if near.Hits[0].Score >= exact.Hits[0].Score {
		t.Errorf("a correction counts %v, the word %v", near.Hits[0].Score, exact.Hits[0].Score)
	}
}

// TestEqualPassagesTakeOnePlace stores one text in three documents.
func TestEqualPassagesTakeOnePlace(t *testing.T) {
	door := testkit.Door(t)
	texts := map[string]string{"one": "pump seal", "two": "pump seal", "three": "pump seal", "four": "pump valve",
		"five": "pump hose"}
	say(t, door, tenantA, "english", texts)
	for _, q := range []search.Query{lexical("pump seal"),
		{Mode: search.Hybrid, Text: "pump seal", Vector: near(2, 1, 0), K: 3},
		{Mode: search.Semantic, Vector: near(2, 1, 0), K: 3}} {
		q.K = 3
		f := ask(t, door, tenantA, q)
		also := 0
		for _, h := range f.Hits {
			also += len(h.Also)
		}
		if len(f.Hits) != 3 || also != 2 {
			t.Errorf("%s: %s, and %d more", q.Mode, named(f.Hits), also)
		}
		q.K, q.Duplicates = 5, true
		if f := ask(t, door, tenantA, q); len(f.Hits) != 5 {
			t.Errorf("%s with each: %s", q.Mode, named(f.Hits))
		}
	}
}

// TestAQuotationIsPreferred asks a natural question with a title in it.
func TestAQuotationIsPreferred(t *testing.T) {
	door := testkit.Door(t)
	say(t, door, tenantA, "english", map[string]string{"a": "Layer boundary of the wing, boundary and layer.",
		"b": "The boundary layer of a wing and of a tail."})
	v := near(2, 1, 0) // between both: words decide
	for i, x := range near(2, 2, 0) {
		v[i] += x
	}
	q := search.Query{Mode: search.Hybrid, Text: `what is a boundary layer?`, Vector: v, K: 5}
	if f := ask(t, door, tenantA, q); named(f.Hits) != "a b" {
		t.Errorf("not quoted: %s", named(f.Hits))
	}
	q.Text = `what is a "boundary layer"?`
	if f := ask(t, door, tenantA, q); named(f.Hits) != "b a" {
		t.Errorf("quoted: %s", named(f.Hits))
	}
	q.Text = `what is a boundary layer? -wing`
	if f := ask(t, door, tenantA, q); len(f.Hits) != 2 {
		t.Errorf("with a hyphen: %s", named(f.Hits))
	}
}

// TestBeginningsAreOfWordsAsTheyAreWritten asks for beginnings that reach into what a stemmer takes off, and for
// accents that the passage leaves out.
func TestBeginningsAreOfWordsAsTheyAreWritten(t *testing.T) {
	door := testkit.Door(t)
	say(t, door, tenantA, "english", map[string]string{"a": "Customers get a delivery while playing melodies.",
		"b": "A resume of the cliche by Beyonce, and creme brulee."})
	say(t, door, tenantA, "german", map[string]string{"c": "Die Häuser haben eine Größe und eine " +
		"Rechtsschutzversicherungen."})
	say(t, door, tenantA, "spanish", map[string]string{"d": "Los días pasan."})
	say(t, door, tenantA, "russian", map[string]string{"e": "Самолёты летят."})
	for question, want := range map[string]string{"customer*": "a", "custome*": "a", "cust*": "a", "delivery*": "a",
		"playing*": "a", "melodies*": "a", "Häus*": "c", "größe*": "c", "rechtsschutzversicherung*": "c", "días*": "d",
		"самолёты*": "e", "самоле*": "e", "customer* pla*": "a", "xustomer*": "",
		`résumé`: "b", "cliché": "b", "clichés": "b", "Beyoncé": "b", "brûlée": "b", `"-"`: "", `resume "-"`: "b",
		`resume -"!"`: "b"} {
		q := search.Query{Mode: search.Lexical, Text: question, K: 5}
		f := ask(t, door, tenantA, q)
		if named(f.Hits) != want || len(f.Corrections) > 0 {
			t.Errorf("%s finds %q, not %q, and corrects %v", question, named(f.Hits), want, f.Corrections)
		}
	}
}

// TestOperatorsMeetHeadings looks for phrases and refuses words where a heading has them.
func TestOperatorsMeetHeadings(t *testing.T) {
	door := testkit.Door(t)
	say(t, door, tenantA, "english", map[string]string{"a": "It lasts two years.", "b": "It is closed on Mondays."})
	if err := door.Query(t.Context(), tenantA, `INSERT INTO kb_passages (tenant_id, chunk_id, headings, start_byte,
		end_byte, language) SELECT tenant_id, id, ARRAY['Handbook', 'Pump E-4711', 'It lasts'], 0, 1, 'english'
		FROM kb_chunks WHERE content LIKE '%years%'`, nil, nil); err != nil {
		t.Fatal(err)
	}
	for question, want := range map[string]string{`"pump E-4711"`: "a", "years -pump": "", "years -E-4711": "",
		`years -"E-4711"`: "", `"handbook pump"`: "", `"lasts it"`: "", `"lasts two"`: "a", "closed -pump": "b",
		"e4711": "a", "E4711": "a"} {
		q := search.Query{Mode: search.Lexical, Text: question, K: 5}
		if f := ask(t, door, tenantA, q); named(f.Hits) != want {
			t.Errorf("%s finds %q, not %q", question, named(f.Hits), want)
		}
	}
	q := search.Query{Mode: search.Hybrid, Text: "years -pump", Vector: near(2, 1, 0), K: 5, Operators: true}
	if f := ask(t, door, tenantA, q); named(f.Hits) != "b" {
		t.Errorf("hybrid finds %q", named(f.Hits))
	}
}

// TestHeadingsAreFound finds a passage by its heading, and nothing of it once it is gone.
func TestHeadingsAreFound(t *testing.T) {
	d := testkit.Database(t)
	door := testkit.DoorOf(t, d)
	say(t, door, tenantA, "english", map[string]string{"a": "It lasts two years.", "b": "It is closed on Mondays."})
	run := func(sql string) {
		t.Helper()
		if err := door.Query(t.Context(), tenantA, sql, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	run(`INSERT INTO kb_passages (tenant_id, chunk_id, headings, start_byte, end_byte, language)
		SELECT tenant_id, id, ARRAY['Handbook', 'Warranties of pumps, in years'], 0, 1, 'english' FROM kb_chunks
		 WHERE content LIKE '%years%'`)
	for _, question := range []string{"warranty", "handbook", "years"} {
		if f := ask(t, door, tenantA, lexical(question)); named(f.Hits) != "a" {
			t.Errorf("%s finds %q", question, named(f.Hits))
		}
	}
	run(`UPDATE kb_passages SET headings = ARRAY['Guarantee']`)
	if f := ask(t, door, tenantA, lexical("warranty")); len(f.Hits) != 0 {
		t.Errorf("after its heading changed: %q", named(f.Hits))
	}
	if f := ask(t, door, tenantA, lexical("years")); named(f.Hits) != "a" {
		t.Errorf("the text's own word finds %q", named(f.Hits))
	}
	run(`DELETE FROM kb_chunks`)
	super := testkit.Connect(t, d.SuperuserURL())
	left := -1
	if err := super.QueryRow(t.Context(), `SELECT count(*) FROM kb_terms`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d terms are left of nothing: %v", left, err)
	}
}
