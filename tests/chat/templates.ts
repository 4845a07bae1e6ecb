/** Chat templates in the manner of models in use, written down by what they do. */
export const chatml = `{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are helpful.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}`;

/** System text goes into the first message, blanks are trimmed, roles must alternate. */
export const llama2 = `{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}{% endif %}
{%- for message in messages %}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
  {%- set content = message['content'] %}
  {%- if loop.index0 == 0 and system is defined %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + content %}{% endif %}
  {%- if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}
{%- endfor %}`;

/** What was thought in earlier turns is left out. */
export const thinking = `{%- for message in messages %}
{%- set content = message.content %}
{%- if message.role == 'assistant' and '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}`;

/** Contents as JSON. */
export const json = `{% for message in messages %}<|im_start|>{{ message | tojson }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}`;

/** Takes characters out of messages: what is left may spell something else. */
export const removing = `{% for message in messages %}<|im_start|>{{ message.content | replace('</think>', '') }}<|im_end|>{% endfor %}`;

/** Messages of one letter each, side by side. */
export const joining = `{% for message in messages %}{{ message.content }}{% endfor %}<|im_end|>`;

/** Takes single characters out. */
export const thinning = `{% for message in messages %}<|im_start|>{{ message.content | replace('m', '') }}<|im_end|>{% endfor %}`;

/** Makes tokens of what was none. */
export const lowering = `{% for message in messages %}<|im_start|>{{ message.content | lower }}<|im_end|>{% endfor %}`;
