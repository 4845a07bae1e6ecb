// serial
/** Chat templates that do more than they should. */
import * as assert from 'uvu/assert';
import { ChatTemplate } from '../../src/chat/conversation.js';
import { checkChat } from '../../src/formats/chat.js';
import { chatml } from '../chat/templates.js';
import { measure, type Attack } from './measured.js';

const nested = (depth: number, open: string, inner: string, close: string) => open.repeat(depth) + inner + close.repeat(depth);

const bombs: Record<string, string> = {
  'endless range': '{% for i in range(10 ** 12) %}x{% endfor %}',
  'infinite range': '{% for i in range(1.5 ** 900 * 1.5 ** 900) %}x{% endfor %}',
  'nested loops': nested(6, '{% for i in range(1000) %}', 'x', '{% endfor %}'),
  'loops without text': nested(6, '{% for i in range(1000) %}', '', '{% endfor %}'),
  'doubling a text': `{% set ns = namespace(s='xxxxxxxx') %}${'{% set ns.s = ns.s ~ ns.s %}'.repeat(60)}{{ ns.s }}`,
  'doubling in a loop': '{% set ns = namespace(s="x") %}{% for i in range(20000) %}{% set ns.s = ns.s + ns.s %}{% endfor %}',
  'doubling a list': `{% set ns = namespace(s=[1]) %}${'{% set ns.s = ns.s + ns.s %}'.repeat(60)}{{ ns.s | length }}`,
  'a list of lists of lists': `{% set a = [1, 1] %}${'{% set a = [a, a] %}'.repeat(50)}{{ a }}`,
  'the same as JSON': `{% set a = {'x': 1} %}${'{% set a = {"x": a, "y": a} %}'.repeat(50)}{{ a | tojson }}`,
  'the same compared': `{% set a = [1, 1] %}${'{% set a = [a, a] %}'.repeat(50)}{{ a == 'x' }}`,
  'the same joined': `{% set a = [1, 1] %}${'{% set a = [a, a] %}'.repeat(50)}{{ a | join('') }}`,
  'the same added': `{% set a = [1, 1] %}${'{% set a = [a, a] %}'.repeat(50)}{{ 'x' ~ a }}`,
  'a namespace in itself': '{% set n = namespace(a=1) %}{% set n.a = n %}{{ n }}',
  'namespaces from the top': `${Array.from({ length: 50 }, (_, i) => `{% set n${i} = namespace(a=1) %}`).join('')}${Array.from({ length: 49 }, (_, i) => `{% set n${i}.a = [n${i + 1}, n${i + 1}] %}`).join('')}{{ n0 }}`,
  'replacing with much': `{% set ns = namespace(s='xxxxxxxx') %}${'{% set ns.s = ns.s ~ ns.s %}'.repeat(15)}{% set t = ns.s.replace('x', ns.s) %}{{ t }}`,
  'replacing by another name': `{% set ns = namespace(s='xxxxxxxx') %}${'{% set ns.s = ns.s ~ ns.s %}'.repeat(15)}{% set f = ns.s['re' ~ 'place'] %}{{ f('x', ns.s) }}`,
  'replacing again and again': '{% set ns = namespace(s="x", l=[]) %}{% for i in range(18) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{% for i in range(30000) %}{% set ns.l = ns.l + [ns.s.replace("x", "y")] %}{% endfor %}',
  'indenting far': '{{ "a\nb" | indent(10 ** 9) }}',
  'JSON indented far': '{{ [[1]] | tojson(indent=10 ** 9) }}',
  'joining with much': '{% set ns = namespace(s="xxxxxxxx") %}{% for i in range(18) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ range(30000) | join(ns.s) }}',
  'sorting long texts': '{% set ns = namespace(s="xX", l=[]) %}{% for i in range(18) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{% for i in range(3000) %}{% set ns.l = ns.l + [ns.s] %}{% endfor %}{{ ns.l | sort | length }}',
  'searching long lists': '{% set l = range(30000) | list %}{% for i in range(30000) %}{% if "x" in l %}{% endif %}{% endfor %}',
  'a macro that calls itself': '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  'a macro that calls itself twice': '{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}',
  'macros made in a loop': `{% for i in range(30000) %}{% macro f() %}${'{{ a.b.c }}'.repeat(8000)}{% endmacro %}{% endfor %}`,
  'looking for what is not there': nested(2, '{% for i in range(3000) %}', '{{ nowhere }}', '{% endfor %}'),
  'deep brackets': `{{ ${nested(30000, '(', '1', ')')} }}`,
  'deep lists': `{{ ${nested(30000, '[', '1', ']')} }}`,
  'deep blocks': nested(5000, '{% if true %}', 'x', '{% endif %}'),
  'an endless sum': `{{ ${'1 + '.repeat(30000)}1 }}`,
  'blanks before a tag': ' '.repeat(120_000),
  'tabs before tags': `${'\t'.repeat(900)}x`.repeat(140),
  'an open tag': '{% for x in',
  'an open text': '{{ "abc',
  'an open comment': '{# ',
  'an unknown filter': '{{ messages | nonsense }}',
  'an unknown call': '{{ messages.nonsense() }}',
  'an unknown statement': '{% nonsense %}',
  'a lonely break': '{% break %}',
  'a method that is none': '{{ "x".constructor("return process")() }}',
  'a prototype': '{{ messages.__proto__.x() }}',
  'a refusal': '{{ raise_exception("no") }}',
};
/** Strange, and harmless: they may also be run to their end. */
const harmless = ['tabs before tags', 'an endless sum', 'deep blocks', 'an unknown statement'];

const run = (template: string) => new ChatTemplate({ template, tokens: {} }, ['<|im_end|>'], 'model.gguf').write([{ role: 'user', content: 'Hello' }], true);
const attacks = Object.entries(bombs).map(([name, template]): Attack => ({
  name, code: harmless.includes(name) ? [null, 'CHAT_TEMPLATE'] : 'CHAT_TEMPLATE', read: () => { run(template); },
}));

await measure('hostile chat templates', import.meta.url, attacks, () => { run(chatml); }, test => {
  test('what a file may say of its chats', () => {
    for (const chat of [null, 3, [], {}, { template: 3, tokens: {} }, { template: 'x'.repeat(200_000), tokens: {} }, { template: '', tokens: [] }, { template: '' },
      { template: '', tokens: { bos_token: 3 } }, { template: '', tokens: { bos_token: 'x'.repeat(1000) } }, { template: '', tokens: { messages: '' } },
      { template: '', tokens: { __proto__x: '' } }, JSON.parse('{ "template": "", "tokens": { "__proto__": "x" } }')]) {
      assert.throws(() => checkChat(chat, 'file'), (error: any) => error.code === 'BAD_MODEL_FILE' && error.field.startsWith('chat.'), JSON.stringify(chat)?.slice(0, 100));
    }
  });
});
