-- What searches read. Triggers derive it from each passage, whoever writes it: its vector for the index, its words, and
-- how a tenant's vectors are searched.
--
-- Under row-level security a GIN index on words can't be used, because @@ is not leakproof. So postings are rows, found
-- by a key that begins with the tenant, and ranking uses only the tenant's own word statistics.
-- +goose Up
-- +goose StatementBegin
CREATE TABLE public.kb_points (
  tenant_id   uuid NOT NULL,
  document_id uuid NOT NULL,
  chunk_id    uuid NOT NULL,
  language    text NOT NULL,
  half        halfvec(384),
  text_hash   bigint NOT NULL,
  PRIMARY KEY (tenant_id, document_id, chunk_id) INCLUDE (half)
);
CREATE INDEX ix_kb_points_text ON public.kb_points (tenant_id, text_hash) INCLUDE (document_id, chunk_id);
COMMENT ON TABLE public.kb_points IS
  'each passage''s vector at length 1 and half the precision, in an index that a search of one tenant, '
  'or of some documents, reads alone';
COMMENT ON COLUMN public.kb_points.half IS 'NULL where the vector has no length: nothing is near it';
COMMENT ON COLUMN public.kb_points.text_hash IS 'of the passage''s text: equal passages are found by it';

CREATE TABLE public.kb_terms (
  tenant_id uuid     NOT NULL,
  term      text     COLLATE "C" NOT NULL,
  chunk_id  uuid     NOT NULL,
  times     smallint NOT NULL,
  length    integer  NOT NULL,
  tail      text     COLLATE "C",
  PRIMARY KEY (tenant_id, term, chunk_id) INCLUDE (times, length)
);
COMMENT ON TABLE public.kb_terms IS
  'which passage has which term how often, and how many words it has; the empty term is in each';
COMMENT ON COLUMN public.kb_terms.tail IS
  'the term from its end, where its language joins words and it is long: what compounds end in is looked up by it';
CREATE INDEX ix_kb_terms_tail ON public.kb_terms (tenant_id, tail) WHERE tail IS NOT NULL;

CREATE TABLE public.kb_tiers (
  tenant_id uuid        NOT NULL,
  model     text        NOT NULL,
  chunks    integer     NOT NULL,
  built_at  timestamptz,
  ef_search integer     NOT NULL DEFAULT 100 CHECK (ef_search BETWEEN 1 AND 1000),
  recall    real,
  queries   integer,
  tuned_at  timestamptz,
  trouble   text        NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, model)
);
COMMENT ON TABLE public.kb_tiers IS
  'how a tenant''s passages are searched: what was decided and measured of its own index, where it has one';
COMMENT ON COLUMN public.kb_tiers.model IS 'empty for the first';

-- An index-only scan needs pages that are marked all-visible, so vacuum soon after inserts.
ALTER TABLE public.kb_points SET (
  autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.02,
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE public.kb_terms SET (
  autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0.02,
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE public.kb_chunks SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- How text becomes terms. The same functions read passages and questions, so that what was read is found. Words are
-- kept in one form each: Unicode's NFKC without accents and in lower case, stemmed by the language's own stemmer.
-- Stop words are terms like all others; a question leaves out those of its own language.
CREATE FUNCTION public.kb_fold(word text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN octet_length(word) = length(word) THEN lower(word) ELSE
    translate(replace(replace(replace(replace(normalize(regexp_replace(normalize(lower(word), NFKD),
      '[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f'
      '\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u093c\u09bc\u0a3c\u1ab0-\u1aff\u1dc0-\u1dff'
      '\u20d0-\u20ff\ufe20-\ufe2f]+', '', 'g'), NFC),
      'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'),
      'øłđðıŧħŋſςىةکیךםןףץ', 'olddithnsσيهكيכמנפצ') END
$$;

CREATE FUNCTION public.kb_dictionary(language text) RETURNS regdictionary LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT ('pg_catalog.' || CASE language WHEN 'simple' THEN language ELSE language || '_stem' END)::regdictionary
$$;

-- Where a language writes ä, ö, ü, å, æ and ø with two letters when it lacks them, both spellings are one.
CREATE FUNCTION public.kb_umlauts(language text, word text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE language
    WHEN 'german' THEN replace(replace(regexp_replace(word, '(?<![aeq])ue', 'ü', 'g'), 'ae', 'ä'), 'oe', 'ö')
    WHEN 'swedish' THEN replace(replace(replace(word, 'aa', 'å'), 'ae', 'ä'), 'oe', 'ö')
    WHEN 'danish' THEN replace(replace(replace(word, 'aa', 'å'), 'ae', 'æ'), 'oe', 'ø')
    WHEN 'norwegian' THEN replace(replace(replace(word, 'aa', 'å'), 'ae', 'æ'), 'oe', 'ø')
    ELSE word END
$$;

-- A word's term in a language, of whose dictionary it is given.
CREATE FUNCTION public.kb_term(language text, dictionary regdictionary, word text) RETURNS text
  LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT (SELECT left(public.kb_fold(coalesce((ts_lexize(dictionary, w))[1], w)), 100)
            FROM public.kb_umlauts(language, word) w)
$$;

-- The tokens of a text, in order. A token holds what stands between separators: a word, or an identifier such as
-- E-4711, C++, snake_case or an address. Only the text's beginning is read, up to a length that always fits.
CREATE FUNCTION public.kb_tokens(content text) RETURNS TABLE (n bigint, token text)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT m.n, m.found[1]
    FROM regexp_matches(CASE WHEN octet_length(content) = length(content) THEN left(content, 100000) ELSE
           replace(translate(left(normalize(left(content, 100000), NFKC), 100000),
             '٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९๐๑๒๓๔๕๖๗๘๙’ʼ‐‑⁄' || U&'\00ad\200c\200d\feff',
             '0123456789012345678901234567890123456789''''--/'), 'เเ', 'แ') END,
           '([^\u0001-\u002f:-@\[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u037e\u0387'
           '\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u060c\u061b\u061e\u061f\u066a-\u066d'
           '\u06d4\u0964\u0965\u0970\u0e2f\u0e3f\u0e46\u0e4f\u0e5a\u0e5b\u104a-\u104f\u1361-\u1368\u17d4-\u17da'
           '\u2000-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d\u30a0\u30fb\ue000-\uf8ff'
           '\ufe10-\ufe6f\U0001f000-\U0001faff](?:[^\u0001-\u002f:-@\[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9'
           '\u00bb-\u00bf\u00d7\u00f7\u037e\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05c6\u05f3\u05f4'
           '\u060c\u061b\u061e\u061f\u066a-\u066d\u06d4\u0964\u0965\u0970\u0e2f\u0e3f\u0e46\u0e4f\u0e5a\u0e5b'
           '\u104a-\u104f\u1361-\u1368\u17d4-\u17da\u2000-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030'
           '\u303d\u30a0\u30fb\ue000-\uf8ff\ufe10-\ufe6f\U0001f000-\U0001faff]|[.,:/\\_+#@&%''-]{1,3}(?=[^'
           '\u0001-\u002f:-@\[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u037e\u0387'
           '\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u060c\u061b\u061e\u061f\u066a-\u066d'
           '\u06d4\u0964\u0965\u0970\u0e2f\u0e3f\u0e46\u0e4f\u0e5a\u0e5b\u104a-\u104f\u1361-\u1368\u17d4-\u17da'
           '\u2000-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d\u30a0\u30fb\ue000-\uf8ff'
           '\ufe10-\ufe6f\U0001f000-\U0001faff]))*[+#]{0,2})', 'g') WITH ORDINALITY m (found, n)
$$;

-- What a token is found by: its words ("w"), runs of a script without spaces ("r"), and the whole of it ("i") where it
-- has several parts, as HTTPServer has, and is no words with hyphens. Traditional Chinese is read as simplified.
CREATE FUNCTION public.kb_parts(token text) RETURNS TABLE (n bigint, kind text, part text)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  WITH parts AS MATERIALIZED (
    SELECT m.n, m.found[1] AS run, lower(m.found[2]) AS word
      FROM regexp_matches(token,
           '([\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edd\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u3005-\u3007'
           '\u3021-\u302f\u3031-\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff'
           '\u3400-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]+)|([[:upper:]0-9]+(?![[:lower:]])|[[:uppe'
           'r:]]?[[:lower:]0-9\u0300-\u036f]+|[^\u0001-\u002f:-@\[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf'
           '\u00d7\u00f7\u037e\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u060c\u061b\u061e'
           '\u061f\u066a-\u066d\u06d4\u0964\u0965\u0970\u0e2f\u0e3f\u0e46\u0e4f\u0e5a\u0e5b\u104a-\u104f'
           '\u1361-\u1368\u17d4-\u17da\u2000-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d\u30a0\u30fb'
           '\ue000-\uf8ff\ufe10-\ufe6f\U0001f000-\U0001faff\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edd\u1000-\u1049'
           '\u1050-\u109f\u1780-\u17d3\u3005-\u3007\u3021-\u302f\u3031-\u303c\u3041-\u309f\u30a1-\u30fa'
           '\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff0-9['
           ':upper:][:lower:]]+)', 'g') WITH ORDINALITY m (found, n)),
  whole AS (SELECT count(*) AS parts, token ~ '^[^'']{1,2}''[^'']+$|^[^'']+''[^'']{1,2}$' AS elided FROM parts)
  SELECT p.n, CASE WHEN p.run IS NULL THEN 'w' ELSE 'r' END, CASE WHEN p.run !~ '[\u4e00-\u9fff]' THEN p.run
         WHEN p.run IS NULL THEN p.word ELSE
         translate(p.run,
           '丟並乾亂亙亞佇佈佔併來侖侶侷係俠倀倆倉個們倖倫偉側偵偽傑傖傘備傢傭傯傳債傷傾僅僑僕僥僱價儀儂億儈儉儐儔儕儘償優儲儷儻儼兇兌兒兗內兩冊冑冪凍凜凱別刪則剋剎剛剝剴創剷劃劇劉劊劍劑勁動務勛勝勞勢勳勵勸勻匯匱'
           '區協卹卻厭厲參叢吒吳吶呂員唸問啞啟喚喪喫喬單喲嗆嗇嗎嗚嗶嘆嘍嘔嘖嘗嘩嘮嘯嘰噓噥噯噴噸噹嚀嚇嚐嚕嚥嚨嚮嚴嚶囀囁囂囈囌囑囪國圍園圓圖團執堅堊堝堯報場塊塋塒塗塚塢塵塹墊墜墮墳墾壇壎壓壘壙壞壟壢壩壯壺壽夠夢夥'
           '夾奐奧奩奪奮妝姍姦娛婁婦媧媼媽嫗嫵嫻嬈嬋嬌嬤嬪嬰嬸孃孫學孿宮寢實寧審寫寬寵寶將專尋對導尷屆屍屜屢層屨屬岡峴島峽崑崗崙崢嵐嶄嶇嶸嶺嶼嶽巒巔巖帥師帳帶幀幃幗幟幣幫幹幾庫廁廂廄廈廚廝廟廠廢廣廬廳弒弔張強彆彈'
           '彌彎彙彥彫彿後徑從徠復徵徹恆恥悅悵悶悽惡惱惻愛愜愴愷愾慄態慍慘慚慟慣慫慮慶慼慾憂憊憐憑憚憤憫憮憲憶懇應懍懣懲懶懷懸懺懼懾戀戰戲戶拋挾捨捫捱捲掃掄掙掛採揀揚換揮損搖搗搶摑摟摯摺摻撈撐撓撥撫撲撳撻撾撿擁擄'
           '擇擊擋擔據擠擬擰擱擲擴擷擺擻擾攆攏攔攙攜攝攣攤攪攬敗敘敵數斂斃斕斬斷於昇時晉晝暈暉暢暫曄曆曇曉曖曠曬書會朧朮東枴柵桿梔條梟棄棗棟棧棲楊楓楨業極榦榮構槍槓槨槳樁樂樅樑樓標樞樣樸樹樺橈橋機橢橫檔檜檢檣檯檳'
           '檸檻櫃櫓櫚櫛櫝櫥櫬櫻欄權欖欽歎歐歟歡歲歷歸歿殘殤殮殯殲殺殼毀毆氈氣氫氬氳氾汎汙決沒沖況洩洶浹涇涼淒淚淨淪淵淺渙減渦測渾湊湧湯準溝溫溼滄滅滌滬滯滲滷滾滿漁漢漣漬漲漸漿潑潔潛潤潯潰澀澆澗澠澤澱濁濃濕濘濛濟'
           '濤濫濰濱濺濾瀆瀉瀋瀏瀕瀘瀝瀟瀨瀰瀲瀾灑灘灣灤災為烏無煉煙煥煩煬熒熱熾燈燉燒燙燜營燦燬燭燴燻燼燾爍爐爛爭爺爾牆牘牽犖犛犢犧狀狹狽猙猶獄獅獎獨獰獲獵獷獸獺獻玀現琺琿瑣瑤瑩瑪璣璦環璽璿瓊瓏瓔瓚甌甕產甦畝畢畫'
           '異當疇疊痙痠瘋瘍瘓瘡瘧瘺療癆癒癘癟癡癢癥癩癬癮癱癲發皚皰皺盃盜盞盡監盤盧盪眾睏睜睞瞞瞼矇矚矯硃硯碩確碼磚磧磯礎礙礦礪礫礬祕祿禍禎禦禪禮禱禿秈稅稈稜稟種稱穀穌積穎穡穢穩穫窩窪窮窯窺竄竅竇竊競筆筍筧箇箋箏'
           '節範築篤篩簍簑簞簡簣簫簽簾籃籌籟籠籤籬籮籲粵糝糞糧糰糾紀紂約紅紆紇紉紋納紐純紕紗紙級紛紜紡紮細紱紲紳紹紼絀終絃組絆結絕絛絞絡絢給絨統絲絳絹綁綏綑經綜綞綠綢綬維綰綱網綴綵綸綺綻綽綾綿緇緊緒緘緙線緝緞締緣'
           '編緩緬緯緲練緹緻縈縉縊縐縑縛縝縞縣縫縮縱縲縴縵縷縹總績繃繅繆繒織繕繚繞繡繩繪繫繭繳繹繼繽續纏纓纔纖纜缽罈罌罰罵罷羅羈羋羨義羶習翹聖聞聯聰聲聳聶職聽聾肅脅脈脣脩脫脹腎腦腫腳腸膚膠膩膽膾膿臉臍臏臘臚臟臥臨'
           '臺與興舉舊艙艦艱艷芻苧茲荊莊莖莢莧華菴菸萇萊萬萵葉葦葷蒐蒞蒼蓀蓆蓋蓮蔔蔣蔥蔭蕩蕪蕭薊薑薔薦薩薹薺藍藝藥藪藹藺蘆蘇蘊蘋蘚蘭蘿處虛虜號虧蛻蜆蝕蝦蝨蝸螞螢螻蟈蟬蟯蟲蟻蠅蠍蠔蠟蠣蠱蠶蠻術衛衝袞裊補裝裡製複褲褸'
           '褻襖襠襤襪襬襯襲見規覓視覦親覬覲覺覽觀觴觸訂訃計訊訌討訐訓訕訖託記訛訝訟訣訥訪設許訴訶診註証詁詆詐詔評詛詞詠詢詣試詩詫詬詭詮詰話該詳詼誅誇誌認誑誕誘誚語誠誡誣誤誥誦誨說誰課誶誹誼調諂諄談諉請諍諒論諛諜'
           '諦諧諫諭諮諱諳諶諷諸諺諼諾謀謁謂謄謊謎謐謗謙講謝謠謨謫謬謹譁證譎譏識譙譚譜譟譫譯議譴護譽讀變讒讓讖讚讜豈豎豐豔豬貓貝貞負財貢貧貨販貪貫責貯貲貳貴貶買貸費貼貽貿賀賁賂賃賄賅資賈賊賑賒賓賜賞賠賡賢賣賤賦質'
           '賬賭賴賺賻購賽贅贈贊贍贏贓贖贗贛趕趙趨跡踐踴蹕蹟蹣蹤蹺躉躊躋躍躑躓躡躪軀車軋軌軍軒軔軛軟軸軻軼軾較載輊輒輓輔輕輛輜輝輞輟輥輦輩輪輯輳輸輻輾輿轂轄轅轉轍轎轔轟轡辦辭辮辯農迴逕這連週進遊運過達違遙遜遞遠適'
           '遲遷選遺遼邁還邇邊邏邐郵鄉鄒鄧鄭鄰鄴酈醃醜醞醣醫醬釀釁釅釋釐釗釘釙針釣釦釧釩釵鈉鈍鈐鈑鈔鈕鈞鈣鈴鈷鈸鈹鈽鈾鈿鉀鉅鉉鉍鉑鉗鉚鉛鉤鉸鉻銀銅銑銓銖銘銜銨銬銳銷銻銼鋁鋅鋇鋒鋤鋪鋰鋸鋼錄錐錕錘錙錚錠錢錦錨錫錮錯'
           '錳錶鍊鍋鍍鍔鍛鍥鍬鍰鍵鍾鎂鎊鎖鎘鎚鎢鎬鎮鎰鎳鏃鏈鏍鏑鏗鏘鏜鏝鏟鏡鏢鏤鏨鏽鐃鐘鐫鐮鐲鐳鐵鐸鐺鑄鑑鑒鑠鑣鑰鑲鑷鑼鑽鑾鑿長門閂閃閉開閎閏閑閒間閔閘閡閣閤閥閨閩閭閱閻闆闈闊闋闌闐闔闕闖關闡闢陘陝陞陣陰陳陸陽隊'
           '階隕際隨險隱隴隸隻雋雖雙雛雜雞離難雲電霑霧霽靂靄靈靜靦靨鞏鞦韁韃韆韉韋韌韓韜韻響頁頂頃項順須頊頌預頑頒頓頗領頜頡頤頭頰頷頸頹頻顆題額顎顏顓願顛類顥顧顫顯顰顱風颯颱颳颶颼飄飛飢飩飪飭飯飲飴飼飽飾餃餅餉養'
           '餌餒餓餘餚餛餞餡館餵餾餿饅饉饑饒饗饜饞馬馭馮馱馳馴駁駐駑駒駕駙駛駝駟駢駭駱駿騁騎騖騙騫騰騷騾驀驃驅驍驕驗驚驛驟驢驥驪骯髏髒體髖髮鬆鬍鬚鬢鬥鬧鬨鬱魎魘魚魯魷鮑鮪鮫鮭鮮鯀鯉鯊鯖鯛鯧鯨鯽鰍鰓鰥鰭鰱鰻鰾鱉鱔鱖'
           '鱗鱟鱷鱸鳥鳩鳳鳴鳶鴆鴉鴕鴛鴣鴦鴨鴻鴿鵑鵝鵠鵡鵪鵬鵲鶉鶯鶴鷂鷓鷗鷥鷹鷺鸚鸛鸞鹵鹹鹼鹽麗麥麩麴麵麼黃黌點黨黴黷鼕鼴齊齋齒齜齟齡齣齦齧齪齬齲齷龍龐龔龜',
           '丢并干乱亘亚伫布占并来仑侣局系侠伥俩仓个们幸伦伟侧侦伪杰伧伞备家佣偬传债伤倾仅侨仆侥雇价仪侬亿侩俭傧俦侪尽偿优储俪傥俨凶兑儿兖内两册胄幂冻凛凯别删则克刹刚剥剀创铲划剧刘刽剑剂劲动务勋胜劳势勋励劝匀汇匮'
           '区协恤却厌厉参丛咤吴呐吕员念问哑启唤丧吃乔单哟呛啬吗呜哔叹喽呕啧尝哗唠啸叽嘘哝嗳喷吨当咛吓尝噜咽咙向严嘤啭嗫嚣呓苏嘱囱国围园圆图团执坚垩埚尧报场块茔埘涂冢坞尘堑垫坠堕坟垦坛埙压垒圹坏垄坜坝壮壶寿够梦伙'
           '夹奂奥奁夺奋妆姗奸娱娄妇娲媪妈妪妩娴娆婵娇嬷嫔婴婶娘孙学孪宫寝实宁审写宽宠宝将专寻对导尴届尸屉屡层屦属冈岘岛峡昆岗仑峥岚崭岖嵘岭屿岳峦巅岩帅师帐带帧帏帼帜币帮干几库厕厢厩厦厨厮庙厂废广庐厅弑吊张强别弹'
           '弥弯汇彦雕佛后径从徕复征彻恒耻悦怅闷凄恶恼恻爱惬怆恺忾栗态愠惨惭恸惯怂虑庆戚欲忧惫怜凭惮愤悯怃宪忆恳应懔懑惩懒怀悬忏惧慑恋战戏户抛挟舍扪挨卷扫抡挣挂采拣扬换挥损摇捣抢掴搂挚折掺捞撑挠拨抚扑揿挞挝捡拥掳'
           '择击挡担据挤拟拧搁掷扩撷摆擞扰撵拢拦搀携摄挛摊搅揽败叙敌数敛毙斓斩断于升时晋昼晕晖畅暂晔历昙晓暧旷晒书会胧术东拐栅杆栀条枭弃枣栋栈栖杨枫桢业极干荣构枪杠椁桨桩乐枞梁楼标枢样朴树桦桡桥机椭横档桧检樯台槟'
           '柠槛柜橹榈栉椟橱榇樱栏权榄钦叹欧欤欢岁历归殁残殇殓殡歼杀壳毁殴毡气氢氩氲泛泛污决没冲况泄汹浃泾凉凄泪净沦渊浅涣减涡测浑凑涌汤准沟温湿沧灭涤沪滞渗卤滚满渔汉涟渍涨渐浆泼洁潜润浔溃涩浇涧渑泽淀浊浓湿泞蒙济'
           '涛滥潍滨溅滤渎泻沈浏濒泸沥潇濑弥潋澜洒滩湾滦灾为乌无炼烟焕烦炀荧热炽灯炖烧烫焖营灿毁烛烩熏烬焘烁炉烂争爷尔墙牍牵荦牦犊牺状狭狈狰犹狱狮奖独狞获猎犷兽獭献猡现珐珲琐瑶莹玛玑瑷环玺璇琼珑璎瓒瓯瓮产苏亩毕画'
           '异当畴叠痉酸疯疡痪疮疟瘘疗痨愈疠瘪痴痒症癞癣瘾瘫癫发皑疱皱杯盗盏尽监盘卢荡众困睁睐瞒睑蒙瞩矫朱砚硕确码砖碛矶础碍矿砺砾矾秘禄祸祯御禅礼祷秃籼税秆棱禀种称谷稣积颖穑秽稳获窝洼穷窑窥窜窍窦窃竞笔笋笕个笺筝'
           '节范筑笃筛篓蓑箪简篑箫签帘篮筹籁笼签篱箩吁粤糁粪粮团纠纪纣约红纡纥纫纹纳纽纯纰纱纸级纷纭纺扎细绂绁绅绍绋绌终弦组绊结绝绦绞络绚给绒统丝绛绢绑绥捆经综缍绿绸绶维绾纲网缀彩纶绮绽绰绫绵缁紧绪缄缂线缉缎缔缘'
           '编缓缅纬缈练缇致萦缙缢绉缣缚缜缟县缝缩纵缧纤缦缕缥总绩绷缫缪缯织缮缭绕绣绳绘系茧缴绎继缤续缠缨才纤缆钵坛罂罚骂罢罗羁芈羡义膻习翘圣闻联聪声耸聂职听聋肃胁脉唇修脱胀肾脑肿脚肠肤胶腻胆脍脓脸脐膑腊胪脏卧临'
           '台与兴举旧舱舰艰艳刍苎兹荆庄茎荚苋华庵烟苌莱万莴叶苇荤搜莅苍荪席盖莲卜蒋葱荫荡芜萧蓟姜蔷荐萨苔荠蓝艺药薮蔼蔺芦苏蕴苹藓兰萝处虚虏号亏蜕蚬蚀虾虱蜗蚂萤蝼蝈蝉蛲虫蚁蝇蝎蚝蜡蛎蛊蚕蛮术卫冲衮袅补装里制复裤褛'
           '亵袄裆褴袜摆衬袭见规觅视觎亲觊觐觉览观觞触订讣计讯讧讨讦训讪讫托记讹讶讼诀讷访设许诉诃诊注证诂诋诈诏评诅词咏询诣试诗诧诟诡诠诘话该详诙诛夸志认诳诞诱诮语诚诫诬误诰诵诲说谁课谇诽谊调谄谆谈诿请诤谅论谀谍'
           '谛谐谏谕咨讳谙谌讽诸谚谖诺谋谒谓誊谎谜谧谤谦讲谢谣谟谪谬谨哗证谲讥识谯谭谱噪谵译议谴护誉读变谗让谶赞谠岂竖丰艳猪猫贝贞负财贡贫货贩贪贯责贮赀贰贵贬买贷费贴贻贸贺贲赂赁贿赅资贾贼赈赊宾赐赏赔赓贤卖贱赋质'
           '账赌赖赚赙购赛赘赠赞赡赢赃赎赝赣赶赵趋迹践踊跸迹蹒踪跷趸踌跻跃踯踬蹑躏躯车轧轨军轩轫轭软轴轲轶轼较载轾辄挽辅轻辆辎辉辋辍辊辇辈轮辑辏输辐辗舆毂辖辕转辙轿辚轰辔办辞辫辩农回迳这连周进游运过达违遥逊递远适'
           '迟迁选遗辽迈还迩边逻逦邮乡邹邓郑邻邺郦腌丑酝糖医酱酿衅酽释厘钊钉钋针钓扣钏钒钗钠钝钤钣钞钮钧钙铃钴钹铍钸铀钿钾巨铉铋铂钳铆铅钩铰铬银铜铣铨铢铭衔铵铐锐销锑锉铝锌钡锋锄铺锂锯钢录锥锟锤锱铮锭钱锦锚锡锢错'
           '锰表炼锅镀锷锻锲锹锾键钟镁镑锁镉锤钨镐镇镒镍镞链镙镝铿锵镗镘铲镜镖镂錾锈铙钟镌镰镯镭铁铎铛铸鉴鉴铄镳钥镶镊锣钻銮凿长门闩闪闭开闳闰闲闲间闵闸阂阁合阀闺闽闾阅阎板闱阔阕阑阗阖阙闯关阐辟陉陕升阵阴陈陆阳队'
           '阶陨际随险隐陇隶只隽虽双雏杂鸡离难云电沾雾霁雳霭灵静腼靥巩秋缰鞑千鞯韦韧韩韬韵响页顶顷项顺须顼颂预顽颁顿颇领颌颉颐头颊颔颈颓频颗题额颚颜颛愿颠类颢顾颤显颦颅风飒台刮飓飕飘飞饥饨饪饬饭饮饴饲饱饰饺饼饷养'
           '饵馁饿余肴馄饯馅馆喂馏馊馒馑饥饶飨餍馋马驭冯驮驰驯驳驻驽驹驾驸驶驼驷骈骇骆骏骋骑骛骗骞腾骚骡蓦骠驱骁骄验惊驿骤驴骥骊肮髅脏体髋发松胡须鬓斗闹哄郁魉魇鱼鲁鱿鲍鲔鲛鲑鲜鲧鲤鲨鲭鲷鲳鲸鲫鳅鳃鳏鳍鲢鳗鳔鳖鳝鳜'
           '鳞鲎鳄鲈鸟鸠凤鸣鸢鸩鸦鸵鸳鸪鸯鸭鸿鸽鹃鹅鹄鹉鹌鹏鹊鹑莺鹤鹞鹧鸥鸶鹰鹭鹦鹳鸾卤咸碱盐丽麦麸曲面么黄黉点党霉黩冬鼹齐斋齿龇龃龄出龈啮龊龉龋龌龙庞龚龟') END
    FROM parts p
  UNION ALL
  SELECT 0, 'i', left(public.kb_fold(token), 100)
    FROM whole w
   WHERE w.parts > 1 AND NOT w.elided AND token ~ '[^[:alpha:]''-]|^[^-]+$' OR token ~ '[+#]$'
  UNION ALL
  SELECT 0, 'i', regexp_replace(regexp_replace(token, '[.,'' ](?=\d{3}(?:\D|$))', '', 'g'), ',', '.')
   WHERE token ~ '^\d{1,3}(?:[.,'' ]\d{3})+(?:[.,]\d+)?$'
$$;

-- The overlapping pairs of a run's characters, which stand for its words; and its last character, so that each single
-- one is the beginning of a term.
CREATE FUNCTION public.kb_pairs(run text) RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT u.c || lead(u.c, 1, '') OVER (ORDER BY u.n) FROM unnest(string_to_array(run, NULL)) WITH ORDINALITY u (c, n)
$$;

-- The terms of a passage: how often each stands there, and how many of these count for its length.
CREATE FUNCTION public.kb_read(language text, content text)
  RETURNS TABLE (term text, times bigint, counted bigint) LANGUAGE sql STABLE PARALLEL SAFE AS $$
  WITH dictionary AS MATERIALIZED (SELECT public.kb_dictionary(language) AS d),
  tokens AS MATERIALIZED (SELECT t.token, count(*) AS times FROM public.kb_tokens(content) t GROUP BY t.token),
  parts AS (
    SELECT 'w' AS kind, lower(t.token) AS part, t.times
      FROM tokens t WHERE t.token ~ '^(?:[A-Za-z]?[a-z0-9]+|[A-Z0-9]+)$'
    UNION ALL
    SELECT p.kind, p.part, t.times FROM tokens t, public.kb_parts(t.token) p
     WHERE t.token !~ '^(?:[A-Za-z]?[a-z0-9]+|[A-Z0-9]+)$'),
  words AS MATERIALIZED (
    SELECT p.part, p.times, ts_lexize((SELECT d FROM dictionary), p.part) AS stem
      FROM parts p WHERE p.kind = 'w' AND octet_length(p.part) = length(p.part)
       AND language NOT IN ('german', 'swedish', 'danish', 'norwegian')),
  others AS MATERIALIZED (
    SELECT o.part, o.times, o.stem = '{}' AS stop, left(public.kb_fold(coalesce(o.stem[1], o.word)), 100) AS term
      FROM (SELECT o.*, ts_lexize((SELECT d FROM dictionary), o.word) AS stem
              FROM (SELECT p.part, p.times, public.kb_umlauts(language, p.part) AS word
                      FROM parts p
                     WHERE p.kind = 'w' AND (octet_length(p.part) <> length(p.part)
                        OR language IN ('german', 'swedish', 'danish', 'norwegian')) OFFSET 0) o OFFSET 0) o),
  terms AS (
    SELECT left(coalesce(w.stem[1], w.part), 100) AS term, w.times,
           CASE WHEN w.stem = '{}' THEN 0 ELSE w.times END AS counted FROM words w
    UNION ALL
    SELECT o.term, o.times, CASE WHEN o.stop THEN 0 ELSE o.times END FROM others o
    UNION ALL -- an accent that a question leaves out may be all that a stem depends on
    SELECT left(public.kb_fold(o.part), 100), o.times, 0 FROM others o
     WHERE o.part ~ '[\u00c0-\u024f\u1e00-\u1eff]' AND left(public.kb_fold(o.part), 100) <> o.term
    UNION ALL
    SELECT p.part, p.times, 0 FROM parts p WHERE p.kind = 'i'
    UNION ALL
    SELECT r, p.times, CASE length(r) WHEN 1 THEN 0 ELSE p.times END
      FROM parts p, public.kb_pairs(p.part) r WHERE p.kind = 'r')
  SELECT t.term, sum(t.times)::bigint, sum(t.counted)::bigint FROM terms t WHERE t.term <> '' GROUP BY t.term
$$;

-- A passage's words in order, by their terms, each between spaces: what phrases are looked up in. Characters of a
-- script without spaces stand alone.
CREATE FUNCTION public.kb_sequence(language text, content text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT (WITH dictionary AS MATERIALIZED (SELECT public.kb_dictionary(language) AS d)
    SELECT ' ' || coalesce(string_agg(
             CASE p.kind WHEN 'r' THEN regexp_replace(p.part, '(.)(?=.)', '\1 ', 'g')
             ELSE public.kb_term(language, (SELECT d FROM dictionary), p.part) END, ' ' ORDER BY t.n, p.n), '') || ' '
      FROM public.kb_tokens(content) t, public.kb_parts(t.token) p WHERE p.kind <> 'i')
$$;

-- Whether a passage or one of its headings has each of some phrases, and neither has any of others. A phrase without
-- words asks for nothing.
CREATE FUNCTION public.kb_meets(language text, content text, headings text[], must text[], never text[])
  RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT NOT EXISTS (SELECT FROM unnest(must) m, public.kb_sequence(language, m) q
                      WHERE q <> '  ' AND strpos(s.words, q) = 0)
         AND NOT EXISTS (SELECT FROM unnest(never) m, public.kb_sequence(language, m) q
                          WHERE q <> '  ' AND strpos(s.words, q) > 0)
    FROM (SELECT public.kb_sequence(language, content) -- nothing that is looked up has a line's end
                 || coalesce((SELECT string_agg(E'\n' || public.kb_sequence(language, h), '')
                                FROM unnest(headings) h), '') AS words OFFSET 0) s
$$;

-- The words of a question, in order: the terms that each is found by, as it is read in the languages and as it stands,
-- and the languages of which it is a stop word. A run of a script without spaces has a row for each pair ("p"). E-4711
-- and E4711 find each other.
CREATE FUNCTION public.kb_question(languages text[], question text)
  RETURNS TABLE (n bigint, kind text, word text, terms text[], stops text[])
  LANGUAGE sql STABLE PARALLEL SAFE AS $$
  WITH languages AS MATERIALIZED (SELECT l.name, public.kb_dictionary(l.name) AS d FROM unnest(languages) l (name)),
  tokens AS MATERIALIZED (SELECT t.n, t.token FROM public.kb_tokens(question) t),
  parts AS (
    SELECT t.n, 0::bigint AS m, 'w' AS kind, lower(t.token) AS part
      FROM tokens t WHERE t.token ~ '^(?:[A-Za-z]?[a-z0-9]+|[A-Z0-9]+)$'
    UNION ALL
    SELECT t.n, p.n, p.kind, p.part
      FROM tokens t, public.kb_parts(t.token) p WHERE t.token !~ '^(?:[A-Za-z]?[a-z0-9]+|[A-Z0-9]+)$')
  SELECT p.n, 'w', p.part,
         ARRAY(SELECT CASE WHEN octet_length(p.part) = length(p.part)
                             AND l.name NOT IN ('german', 'swedish', 'danish', 'norwegian')
                           THEN left(coalesce((ts_lexize(l.d, p.part))[1], p.part), 100)
                      ELSE public.kb_term(l.name, l.d, p.part) END FROM languages l
               UNION SELECT left(public.kb_fold(p.part), 100)
               UNION SELECT public.kb_term(l.name, l.d, public.kb_fold(p.part)) FROM languages l
                      WHERE octet_length(p.part) > length(p.part)
               UNION SELECT left(public.kb_fold(public.kb_umlauts('german', p.part)), 100) WHERE p.part ~ '[aou]e'
               UNION SELECT left(replace(replace(replace(p.part, 'ä', 'ae'), 'ö', 'oe'), 'ü', 'ue'), 100)
                      WHERE p.part ~ '^[a-zäöü]*[äöü][a-zäöü]*$'
               UNION SELECT left(regexp_replace(p.part, '([a-z])(\d)', '\1-\2'), 100) WHERE p.part ~ '[a-z]\d'),
         ARRAY(SELECT l.name FROM languages l WHERE ts_lexize(l.d, p.part) = '{}')
    FROM parts p WHERE p.kind = 'w'
  UNION ALL
  SELECT p.n, 'i', p.part, ARRAY(SELECT p.part UNION SELECT regexp_replace(p.part, '([a-z])-(\d)', '\1\2')), '{}'
    FROM parts p WHERE p.kind = 'i'
  UNION ALL
  SELECT p.n, 'p', r, ARRAY[r], '{}' FROM parts p, public.kb_pairs(p.part) r
   WHERE p.kind = 'r' AND (length(r) = 2 OR length(p.part) = 1)
  ORDER BY 1, 2
$$;

-- A passage's rows of kb_terms. In languages that join words, a long term is indexed from its end too.
CREATE FUNCTION public.kb_postings(tenant uuid, chunk uuid, language text, content text)
  RETURNS TABLE (tenant_id uuid, term text, chunk_id uuid, times smallint, length integer, tail text)
  LANGUAGE sql STABLE PARALLEL SAFE AS $$
  WITH terms AS MATERIALIZED (SELECT r.term, r.times, r.counted FROM public.kb_read(language, content) r),
  length AS (SELECT coalesce(sum(t.counted), 0)::integer AS words FROM terms t)
  SELECT tenant, t.term, chunk, least(t.times, 32767)::smallint, l.words,
         CASE WHEN length(t.term) >= 9 AND t.term ~ '^[[:alpha:]]+$' AND language IN ('german', 'dutch', 'swedish',
           'danish', 'norwegian', 'finnish', 'hungarian') THEN reverse(t.term) END
    FROM terms t, length l
  UNION ALL SELECT tenant, '', chunk, 1, l.words, NULL FROM length l
$$;

-- What is derived from passages. If a superuser deletes documents without a tenant set, the foreign keys delete the
-- passages as the owner, who under forced row-level security sees no derived rows. So the tenant is set while those are
-- deleted.
CREATE FUNCTION public.kb_read_passages() RETURNS trigger
  LANGUAGE plpgsql SET search_path FROM CURRENT AS $read$
DECLARE tenant uuid; before text := coalesce(current_setting('app.current_tenant', TRUE), '');
BEGIN
  IF TG_OP IN ('UPDATE', 'DELETE') THEN
    FOR tenant IN SELECT DISTINCT o.tenant_id FROM old_chunks o LOOP
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', tenant::text, TRUE); END IF;
      WITH gone AS (
        DELETE FROM public.kb_points p USING old_chunks o
         WHERE p.tenant_id = tenant AND o.tenant_id = tenant AND p.document_id = o.document_id AND p.chunk_id = o.id
        RETURNING p.chunk_id, p.language, o.content)
      DELETE FROM public.kb_terms t
       USING (SELECT g.chunk_id, r.term FROM gone g, public.kb_read(g.language, g.content) r
              UNION ALL SELECT g.chunk_id, '' FROM gone g) w
       WHERE t.tenant_id = tenant AND t.term = w.term COLLATE "C" AND t.chunk_id = w.chunk_id;
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', before, TRUE); END IF;
    END LOOP;
  END IF;
  IF TG_OP IN ('UPDATE', 'INSERT') THEN
    INSERT INTO public.kb_points (tenant_id, document_id, chunk_id, language, half, text_hash)
    SELECT c.tenant_id, c.document_id, c.id, coalesce(s.language, 'simple'),
           CASE WHEN vector_norm(c.embedding) > 0 THEN l2_normalize(c.embedding)::halfvec(384) END,
           hashtextextended(c.content, 0)
      FROM new_chunks c LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id;
    INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length, tail)
    SELECT p.tenant_id, p.term, p.chunk_id, p.times, p.length, p.tail
      FROM (SELECT c.tenant_id, c.id AS chunk_id, c.content, coalesce(s.language, 'simple') AS language
              FROM new_chunks c
              LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id) c,
           public.kb_postings(c.tenant_id, c.chunk_id, c.language, c.content) p
     ORDER BY 1, 2, 3;
  END IF;
  RETURN NULL;
END $read$;
CREATE TRIGGER kb_read_inserted AFTER INSERT ON public.kb_chunks
  REFERENCING NEW TABLE AS new_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_passages();
CREATE TRIGGER kb_read_updated AFTER UPDATE ON public.kb_chunks
  REFERENCING OLD TABLE AS old_chunks NEW TABLE AS new_chunks
  FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_passages();
CREATE TRIGGER kb_read_deleted AFTER DELETE ON public.kb_chunks
  REFERENCING OLD TABLE AS old_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_passages();

-- A passage's headings, the document's title among them, are words of it that do not count for its length. They come
-- after the passage, and go before its other words do.
CREATE FUNCTION public.kb_read_headings() RETURNS trigger
  LANGUAGE plpgsql SET search_path FROM CURRENT AS $read$
DECLARE tenant uuid; before text := coalesce(current_setting('app.current_tenant', TRUE), '');
BEGIN
  IF TG_OP IN ('UPDATE', 'DELETE') THEN
    FOR tenant IN SELECT DISTINCT o.tenant_id FROM old_passages o WHERE o.headings <> '{}' LOOP
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', tenant::text, TRUE); END IF;
      DELETE FROM public.kb_terms t
       USING old_passages o, public.kb_read(o.language, array_to_string(o.headings, ' ')) r
       WHERE t.tenant_id = tenant AND o.tenant_id = tenant AND t.term = r.term COLLATE "C" AND t.chunk_id = o.chunk_id;
      INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length, tail) -- what the text has of them too
      SELECT p.tenant_id, p.term, p.chunk_id, p.times, p.length, p.tail
        FROM old_passages o
        JOIN public.kb_chunks c ON c.tenant_id = tenant AND c.id = o.chunk_id
        LEFT JOIN public.kb_sources s ON s.tenant_id = tenant AND s.document_id = c.document_id,
             public.kb_postings(tenant, c.id, coalesce(s.language, 'simple'), c.content) p
       WHERE o.tenant_id = tenant AND o.headings <> '{}'
       ORDER BY 1, 2, 3
      ON CONFLICT (tenant_id, term, chunk_id) DO UPDATE SET times = excluded.times;
      IF tenant::text <> before THEN PERFORM set_config('app.current_tenant', before, TRUE); END IF;
    END LOOP;
  END IF;
  IF TG_OP IN ('UPDATE', 'INSERT') THEN
    INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length, tail)
    SELECT p.tenant_id, p.term, p.chunk_id, p.times, c.length, p.tail
      FROM new_passages n
      JOIN public.kb_terms c ON c.tenant_id = n.tenant_id AND c.term = '' AND c.chunk_id = n.chunk_id,
           public.kb_postings(n.tenant_id, n.chunk_id, n.language, array_to_string(n.headings, ' ')) p
     WHERE n.headings <> '{}' AND p.term <> ''
     ORDER BY 1, 2, 3
    ON CONFLICT (tenant_id, term, chunk_id)
    DO UPDATE SET times = least(kb_terms.times::integer + excluded.times, 32767);
  END IF;
  RETURN NULL;
END $read$;
CREATE TRIGGER kb_read_inserted AFTER INSERT ON public.kb_passages
  REFERENCING NEW TABLE AS new_passages FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_headings();
CREATE TRIGGER kb_read_updated AFTER UPDATE ON public.kb_passages
  REFERENCING OLD TABLE AS old_passages NEW TABLE AS new_passages
  FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_headings();
CREATE TRIGGER kb_read_deleted AFTER DELETE ON public.kb_passages
  REFERENCING OLD TABLE AS old_passages FOR EACH STATEMENT EXECUTE FUNCTION public.kb_read_headings();

CREATE FUNCTION public.kb_forget_all() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $forget$
BEGIN
  TRUNCATE public.kb_points, public.kb_terms;
  RETURN NULL;
END $forget$;
CREATE TRIGGER kb_read_truncated AFTER TRUNCATE ON public.kb_chunks
  FOR EACH STATEMENT EXECUTE FUNCTION public.kb_forget_all();

-- Schedules the creation or drop of the tenant's own index, if it is due, some time after its passages changed. The
-- lock, shared with writers of passages, keeps a ticket from being deleted before changes that it can't see yet are
-- committed. As in kb_wake, only READ COMMITTED shows whether a ticket is still there; otherwise one more is inserted.
-- A write without a tenant, or of another tenant, schedules nothing.
CREATE FUNCTION public.kb_wake_index(tenant uuid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wake$
BEGIN
  IF tenant IS DISTINCT FROM NULLIF(current_setting('app.current_tenant', TRUE), '')::uuid THEN RETURN; END IF;
  PERFORM pg_advisory_xact_lock_shared(hashtextextended('konstruct indexes ' || tenant, 0));
  IF current_setting('transaction_isolation') <> 'read committed' OR NOT EXISTS (
    SELECT FROM public.river_job r WHERE r.tenant_id = tenant AND r.queue = 'indexes' AND r.finalized_at IS NULL) THEN
    INSERT INTO public.river_job (kind, queue, args, state, scheduled_at)
    VALUES ('tenant', 'indexes', jsonb_build_object('tenant', tenant), 'scheduled', now() + interval '10 seconds');
  END IF;
END $wake$;

CREATE FUNCTION public.kb_passages_came() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $came$
BEGIN
  PERFORM public.kb_wake_index(t.tenant_id) FROM (SELECT DISTINCT n.tenant_id FROM new_chunks n) t;
  RETURN NULL;
END $came$;
CREATE FUNCTION public.kb_passages_went() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $went$
BEGIN
  PERFORM public.kb_wake_index(t.tenant_id) FROM (SELECT DISTINCT o.tenant_id FROM old_chunks o) t;
  RETURN NULL;
END $went$;
CREATE TRIGGER kb_wake_inserted AFTER INSERT ON public.kb_chunks
  REFERENCING NEW TABLE AS new_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_passages_came();
CREATE TRIGGER kb_wake_deleted AFTER DELETE ON public.kb_chunks
  REFERENCING OLD TABLE AS old_chunks FOR EACH STATEMENT EXECUTE FUNCTION public.kb_passages_went();

-- Existing passages, read as in kb_read_passages. Under forced row-level security the owner sees no rows, so it is
-- lifted, only within this transaction.
ALTER TABLE public.kb_chunks NO FORCE ROW LEVEL SECURITY;
ALTER TABLE public.kb_sources NO FORCE ROW LEVEL SECURITY;
INSERT INTO public.kb_points (tenant_id, document_id, chunk_id, language, half, text_hash)
SELECT c.tenant_id, c.document_id, c.id, coalesce(s.language, 'simple'),
       CASE WHEN vector_norm(c.embedding) > 0 THEN l2_normalize(c.embedding)::halfvec(384) END,
       hashtextextended(c.content, 0)
  FROM public.kb_chunks c
  LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id;
INSERT INTO public.kb_terms (tenant_id, term, chunk_id, times, length, tail)
SELECT p.tenant_id, p.term, p.chunk_id, p.times, p.length, p.tail
  FROM public.kb_chunks c
  LEFT JOIN public.kb_sources s ON s.tenant_id = c.tenant_id AND s.document_id = c.document_id,
       public.kb_postings(c.tenant_id, c.id, coalesce(s.language, 'simple'), c.content) p;
ALTER TABLE public.kb_chunks FORCE ROW LEVEL SECURITY;
ALTER TABLE public.kb_sources FORCE ROW LEVEL SECURITY;

DO $isolate$ BEGIN
  PERFORM public.konstruct_isolate('ALL', 'kb_points', 'kb_terms', 'kb_tiers');
END $isolate$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.kb_points, public.kb_terms, public.kb_tiers TO konstruct_app;
REVOKE ALL ON FUNCTION public.kb_fold, public.kb_dictionary, public.kb_umlauts, public.kb_term, public.kb_tokens,
  public.kb_parts, public.kb_pairs, public.kb_read, public.kb_sequence, public.kb_meets, public.kb_question,
  public.kb_postings, public.kb_read_passages, public.kb_read_headings, public.kb_forget_all, public.kb_wake_index,
  public.kb_passages_came, public.kb_passages_went FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.kb_fold, public.kb_dictionary, public.kb_umlauts, public.kb_term, public.kb_tokens,
  public.kb_parts, public.kb_pairs, public.kb_read, public.kb_sequence, public.kb_meets, public.kb_question,
  public.kb_postings, public.kb_wake_index TO konstruct_app;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER kb_read_inserted ON public.kb_chunks;
DROP TRIGGER kb_read_updated ON public.kb_chunks;
DROP TRIGGER kb_read_deleted ON public.kb_chunks;
DROP TRIGGER kb_read_truncated ON public.kb_chunks;
DROP TRIGGER kb_read_inserted ON public.kb_passages;
DROP TRIGGER kb_read_updated ON public.kb_passages;
DROP TRIGGER kb_read_deleted ON public.kb_passages;
DROP TRIGGER kb_wake_inserted ON public.kb_chunks;
DROP TRIGGER kb_wake_deleted ON public.kb_chunks;
DROP FUNCTION public.kb_read_headings, public.kb_read_passages, public.kb_forget_all, public.kb_wake_index,
  public.kb_passages_came, public.kb_passages_went, public.kb_postings, public.kb_question, public.kb_meets,
  public.kb_sequence, public.kb_read, public.kb_pairs, public.kb_parts, public.kb_tokens, public.kb_term,
  public.kb_umlauts, public.kb_dictionary, public.kb_fold;
DROP TABLE public.kb_points, public.kb_terms, public.kb_tiers;
ALTER TABLE public.kb_chunks RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
-- Under forced row-level security the owner sees no tickets, so it is lifted, only within this transaction.
ALTER TABLE public.river_job NO FORCE ROW LEVEL SECURITY;
DELETE FROM public.river_job WHERE queue = 'indexes';
ALTER TABLE public.river_job FORCE ROW LEVEL SECURITY;
