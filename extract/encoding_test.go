package extract_test

import (
	"encoding/base64"

	"golang.org/x/net/html/charset"
)

// encoded are sentences in the languages that their encodings were made for.
var encoded = map[string]string{
	"windows-1252": "Le café où l’élève a mangé était très éloigné de la forêt. Ça coûte 5 € et c’est déjà trop " +
		"cher, a-t-il dit à sa mère.",
	"iso-8859-2":   "Zażółć gęślą jaźń. Książka leży na stole w pokoju, a dzieci są w szkole.",
	"windows-1251": "Быстрая коричневая лиса перепрыгивает через ленивую собаку. Договор подписан сегодня.",
	"koi8-r":       "Быстрая коричневая лиса перепрыгивает через ленивую собаку. Договор подписан сегодня.",
	"iso-8859-7":   "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
	"windows-1255": "השועל החום המהיר קופץ מעל הכלב העצלן. החוזה נחתם היום.",
	"windows-1256": "الثعلب البني السريع يقفز فوق الكلب الكسول. تم توقيع العقد اليوم.",
	"shift_jis":    "いろはにほへと ちりぬるを。契約は今日署名されました。東京都の会社です。",
	"euc-jp":       "いろはにほへと ちりぬるを。契約は今日署名されました。東京都の会社です。",
	"gb18030":      "快速的棕色狐狸跳过懒狗。合同今天签署。我们公司在北京。",
	"big5":         "快速的棕色狐狸跳過懶狗。合約今天簽署。我們公司在台北。",
	"euc-kr":       "빠른 갈색 여우가 게으른 개를 뛰어넘는다. 계약은 오늘 체결되었다.",
	"utf-16le":     "Größe und Länge",
}

func encode(name, text string) ([]byte, error) {
	e, _ := charset.Lookup(name)
	return e.NewEncoder().Bytes([]byte(text))
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
