"""Command lines to begin with, for --help; each is one that the command takes."""

EXAMPLES = {
    "": (
        "paceline demo",
        "paceline pull qwen2.5-coder-1.5b qwen2.5-coder-0.5b",
        "paceline up",
        'paceline generate "What is a B-tree?"',
    ),
    "pull": ("paceline pull", "paceline pull smollm2-135m"),
    "up": (
        "paceline up",
        "paceline up --target ./my-model --draft none",
        "paceline up --target simulated:step_ms=30 --draft simulated:step_ms=3",
    ),
    "generate": (
        'paceline generate "What is a B-tree?" --max-tokens 200',
        "paceline generate --json --seed 7 < prompt.txt",
        "paceline generate hi --address orchestrator.example:7070",
    ),
    "chat": ("paceline chat", 'paceline chat --system "Answer in French." --temperature 0.7'),
    "doctor": ("paceline doctor", "paceline doctor --address orchestrator.example:7070"),
    "status": ("paceline status", "paceline status --json"),
    "top": ("paceline top", "paceline top --interval 5 --address orchestrator.example:7070"),
    "bench": (
        "paceline bench --kinds code --json figures.json --plot figures.png",
        "paceline bench --concurrency 1 --concurrency 8 --no-transformers",
    ),
    "evaluate": (
        "paceline evaluate --page page.html",
        "paceline evaluate --target ./big --candidate ./small:int8 --candidate ngram",
        "paceline evaluate --prompts prompts.jsonl --recording recording.json",
        "paceline evaluate --replay recording.json --round-trip-ms 5",
        "paceline evaluate --live --address orchestrator.example:7070",
    ),
    "simulate": (
        "paceline simulate --step-ms 25 --draft-ms 2.5 --acceptance 0.7",
        "paceline simulate --round-trip-ms 20 --streams 64 --json",
        "paceline simulate --arrivals 4 --candidate small=0.8:2.5 --token-p99-ms 30",
        "paceline simulate --trace trace.csv --evaluation evaluated.json",
    ),
    "demo": ("paceline demo", "paceline demo --max-tokens 64 --port 7080"),
}
STATUS = """exit status:
  0 done
  1 it failed, or what was checked is wrong
  2 a flag, an argument, a model or a file cannot be right
  3 evaluate: no draft is worth using
  4 evaluate: no verdict: one could not be tried, or its figures disagree
  130 ended by Ctrl-C"""
