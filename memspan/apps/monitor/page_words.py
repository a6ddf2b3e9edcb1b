"""The words of the page in English and in Chinese."""

from typing import Any

from memspan.errors import UsageError

_ENGLISH: dict[str, Any] = {
    "title": "Opinion over time",
    "summary": "{texts} texts from {first} to {last} (UTC), {alerts} alerts.",
    "legend": "Line: share of negative texts; bold: mean of {window} periods. Bars: number of texts. Triangle: alert.",
    "grouped": "A point stands for {number} periods.",
    "alerts": "Alerts",
    "no_alerts": "There is no alert in this stretch.",
    "period": "period",
    "texts": "texts",
    "negative": "negative",
    "share": "share of negative",
    "expected": "expected",
    "until": "to",
    "alert": "alert",
    "chart": "{topic}: share of negative texts and number of texts over time",
    "table": "All figures as a table",
    "drill": "Texts by period",
    "shown": "{shown} of {texts} texts, negative ones first",
    "confidence": "confidence",
    "causes": "Negative texts of this rise",
    "rejected": "Lines that were not used",
    "line": "line",
    "contents": "Topics",
    "back": "back to the top",
}
_CHINESE: dict[str, Any] = {
    "title": "舆情趋势",
    "summary": "共 {texts} 条文本，{first} 至 {last}（UTC），{alerts} 次预警。",
    "legend": "折线：负面占比；粗线：{window} 个时段的均值。柱：文本数量。三角：预警。",
    "grouped": "每个点代表 {number} 个时段。",
    "alerts": "预警",
    "no_alerts": "此区间内没有预警。",
    "period": "时段",
    "texts": "文本",
    "negative": "负面",
    "share": "负面占比",
    "expected": "预期",
    "until": "至",
    "alert": "预警",
    "chart": "{topic}：负面占比与文本数量随时间的变化",
    "table": "全部数字（表格）",
    "drill": "按时段查看文本",
    "shown": "共 {texts} 条，显示 {shown} 条，负面在前",
    "confidence": "置信度",
    "causes": "引起预警的负面文本",
    "rejected": "未使用的行",
    "line": "行",
    "contents": "主题",
    "back": "回到顶部",
}
_WORDS: dict[str, dict[str, Any]] = {"en": _ENGLISH, "zh": _CHINESE}
LANGUAGES = tuple(_WORDS)


def words_of(language: str) -> dict[str, Any]:
    """The words of the page. Raises UsageError for a language without any."""
    if language not in _WORDS:
        raise UsageError(f"The language must be one of {', '.join(LANGUAGES)}, got '{language}'.")
    return _WORDS[language]
