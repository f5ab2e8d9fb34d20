{{/* What names of objects begin with. The longest that is a Service's, NAME-orchestrator, has at most 63 letters. */}}
{{- define "paceline.name" -}}
{{- $own := ternary .Release.Name (printf "%s-paceline" .Release.Name) (contains "paceline" .Release.Name) -}}
{{- $name := .Values.name | default $own -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$" $name) -}}
{{- $what := ternary "name" (printf "the name of the release, %s, gives objects a name which" .Release.Name) (ne .Values.name "") -}}
{{- fail (printf "%s is %q, of %d characters; it must be at most 50 of a-z, 0-9 and -, a letter first and no - last: set the value name" $what $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Labels that Helm's users look for. */}}
{{- define "paceline.labels" -}}
app.kubernetes.io/name: paceline
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* All entries of several dicts, the last one's where names are the same; `merge` loses what is false or empty. */}}
{{- define "paceline.all" -}}
{{- $found := dict -}}
{{- range . }}{{ range $name, $value := . }}{{ $_ := set $found $name $value }}{{ end }}{{ end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* What selects the pods of a role. Takes a list: root, role. */}}
{{- define "paceline.selector" -}}
app.kubernetes.io/name: paceline
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Port of a role's calls; health is 100 above it, metrics 200. */}}
{{- define "paceline.port" -}}
{{- get (dict "orchestrator" 7070 "target" 7071 "draft" 7072) . -}}
{{- end -}}

{{/* The service that a role's health port names where it is ready. */}}
{{- define "paceline.service" -}}
paceline.v1.{{ get (dict "orchestrator" "GenerationService" "target" "TargetService" "draft" "DraftService") . }}
{{- end -}}

{{/* The environment of a server: its settings, over what follows from other values. Takes root, role. */}}
{{- define "paceline.environment" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $name := include "paceline.name" $root -}}
{{- $settings := dict "host" "0.0.0.0" "plaintext" (not $root.Values.tls.enabled) -}}
{{- if eq $role "orchestrator" -}}
{{- $_ := set $settings "target" (printf "%s-target:7071" $name) -}}
{{- $_ := set $settings "draft" (printf "%s-draft:7072" $name) -}}
{{- if $root.Values.tokens.secret -}}
{{- $_ := set $settings "token_file" "/tokens/tokens.toml" -}}
{{- end -}}
{{- end -}}
{{- if $root.Values.tls.enabled -}}
{{- $_ := set $settings "tls_certificate" "/tls/tls.crt" -}}
{{- $_ := set $settings "tls_key" "/tls/tls.key" -}}
{{- $_ := set $settings (ternary "tls_server_ca" "tls_client_ca" (eq $role "orchestrator")) "/tls/ca.crt" -}}
{{- end -}}
{{- range $setting, $value := (index $root.Values $role).settings }}{{ $_ := set $settings $setting $value }}{{ end }}
{{- range $setting, $value := $settings }}
{{- /* Whole numbers come as floats, of which large ones would be written as 4.1e+06. */}}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}{{ $value = int64 $value }}{{ end }}
{{ printf "PACELINE_%s_%s" $role $setting | upper }}: {{ $value | toString | quote }}
{{- end -}}
{{- end -}}

{{/* What the container that pulls and the one that serves have alike. Takes root, role. */}}
{{- define "paceline.container" -}}
{{- $image := (index . 0).Values.image -}}
image: {{ with $image.registry }}{{ . }}/{{ end }}{{ (index (index . 0).Values (index . 1)).image }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- with $image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- $own := index (index . 0).Values (index . 1) }}
{{- $home := ternary list (list (dict "name" "HOME" "value" "/tmp")) (eq (index . 1) "orchestrator") }}
{{- with concat $home $own.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
{{- end -}}

{{/* How pods go: a lower number has to be enough for long, and then one goes at a time, whose streams move. */}}
{{- define "paceline.down" -}}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.scaling.downSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}

{{/* Pods above and below `replicas` in a rollout. Where pods have GPUs, and all are taken, a new one starts only when an old one has gone. */}}
{{- define "paceline.surge" -}}
{{- if ne (toString .rollout.maxSurge) "" }}{{ .rollout.maxSurge }}{{ else }}{{ ternary 0 1 (gt (int .gpus) 0) }}{{ end -}}
{{- end -}}

{{- define "paceline.unavailable" -}}
{{- if ne (toString .rollout.maxUnavailable) "" }}{{ .rollout.maxUnavailable }}{{ else }}{{ ternary 1 0 (gt (int .gpus) 0) }}{{ end -}}
{{- end -}}

{{/* A quantity as a number: 500m is 0.5, 1Gi is 1073741824; -1 where it is written with an exponent. */}}
{{- define "paceline.quantity" -}}
{{- $number := regexFind "^[0-9.]+" (toString .) -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := trimPrefix $number (toString .) -}}
{{- if hasKey $units $unit }}{{ mulf $number (get $units $unit) }}{{ else }}-1{{ end -}}
{{- end -}}

{{/* What does not fit in a server with a model. Takes role, its values. */}}
{{- define "paceline.check-engine" -}}
{{- $role := index . 0 -}}
{{- $own := index . 1 -}}
{{- $settings := $own.settings -}}
{{- $vllm := eq (toString $settings.engine) "vllm" -}}
{{- $cuda := hasPrefix "cuda" (toString $settings.device) -}}
{{- $gpus := int $own.gpus -}}
{{- $plain := printf "paceline-%s" $role -}}
{{- if and (not $settings.model) (or (eq $role "target") (ne (toString $settings.drafter) "ngram")) -}}
{{- fail (printf "%s.settings.model is missing; name the model that is served" $role) -}}
{{- end -}}
{{- if and $cuda (not $gpus) -}}
{{- fail (printf "%s.settings.device is %s and %s.gpus is 0; it must be as many as the device needs" $role $settings.device $role) -}}
{{- end -}}
{{- if and $gpus (not $cuda) (not $vllm) -}}
{{- fail (printf "%s.gpus is %d and %s.settings.device is not cuda; it must be, or the GPUs are idle" $role $gpus $role) -}}
{{- end -}}
{{- if and $gpus (eq $own.image $plain) -}}
{{- fail (printf "%s.gpus is %d and %s.image is %s, which has no CUDA; take %s-cuda%s" $role $gpus $role $plain $plain (ternary ", or paceline-target-vllm with engine vllm" "" (eq $role "target"))) -}}
{{- end -}}
{{- if and $vllm (has $own.image (list $plain "paceline-target-cuda")) -}}
{{- fail (printf "target.settings.engine is vllm and target.image is %s, which has none; take paceline-target-vllm" $own.image) -}}
{{- end -}}
{{- if and (not $vllm) (eq $own.image "paceline-target-vllm") -}}
{{- fail "target.image is paceline-target-vllm; target.settings.engine must be vllm" -}}
{{- end -}}
{{- $ranks := mul (int ($settings.tensor_parallel_size | default 1)) (int ($settings.pipeline_parallel_size | default 1)) -}}
{{- if and $gpus (gt $ranks $gpus) -}}
{{- fail (printf "target.gpus is %d; tensor_parallel_size and pipeline_parallel_size need %d" $gpus $ranks) -}}
{{- end -}}
{{- range list "adapter" "pipeline_parallel_size" "tensor_parallel_size" "vllm_arguments" -}}
{{- if and (hasKey $settings .) (not $vllm) -}}
{{- fail (printf "target.settings.%s is for engine vllm; the engine is torch" .) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $settings "kv_tokens") (le (int64 $settings.kv_tokens) (int64 (ternary $settings.kv_reserve_tokens 4096 (hasKey $settings "kv_reserve_tokens")))) -}}
{{- fail (printf "%s.settings.kv_tokens is %d; it must be more than kv_reserve_tokens, by a page of 512 at least" $role (int64 $settings.kv_tokens)) -}}
{{- end -}}
{{- end -}}

{{- /* An expression of PromQL and matchers that each of its series of ours has to meet, too: those of this release. */}}
{{- define "paceline.scoped" }}
{{- $with := regexReplaceAll "\\b(paceline_[a-z0-9_]+)\\{" (first .) (printf "${1}{%s," (last .)) }}
{{- regexReplaceAll "\\b(paceline_[a-z0-9_]+)([^a-z0-9_{]|$)" $with (printf "${1}{%s}${2}" (last .)) }}
{{- end }}
